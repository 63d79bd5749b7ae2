"""Attention over a cache, measured as the target decodes: the cache bound in place, from memory."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from graphopt.errors import BadInput
from graphopt.ir import from_proto
from graphopt.machine._decoders import VOCABULARY, Sizes, attention, whole
from graphopt.machine._graphs import Graph, Weights
from graphopt.machine._intervals import difference_of, interval_of
from graphopt.machine._memory import Stream
from graphopt.machine._profile import AttentionRate, DecoderRate, Interval
from graphopt.machine._pulse import Pulse
from graphopt.machine._turns import settled

if TYPE_CHECKING:
    from graphopt.runtime import Decoder
    from graphopt.targets import Target

__all__ = ["AttentionGrid", "attention_rates", "cache_bytes", "decoder_rates", "loop_seconds"]

_LAYERS = (1, 5)
"""Of two graphs: what the second takes longer, shared by its further layers, is what attention takes."""
_MORE = _LAYERS[1] - _LAYERS[0]
_HEADS = (32, 8, 64)
_OTHERS = 14
"""Nodes of such a graph that are no attention, about."""
_ROOM = 512
_PAST = 64
_AGAIN = 5
"""Times as often is a step timed whose cache stays where it is."""
_WRITTEN = 16
"""Positions of a head of 64 floats in a page of 4 KiB."""


@dataclass(frozen=True)
class AttentionGrid:
    """`heads` are (heads, kv_heads, head size); `chunk` tokens are read at a time up to the last of `pasts`,
    at each of which one is written; so many texts side by side are `batches`, of the first kind. Of `cached`
    heads the caches stay in those of the processor, where they do not exceed half of the last."""

    heads: tuple[tuple[int, int, int], ...]
    cache_bits: tuple[int, ...]
    chunks: tuple[int, ...]
    pasts: tuple[int, ...]
    batches: tuple[int, ...]
    times: int
    cached: tuple[tuple[int, int, int], ...] = ()
    cached_batches: tuple[int, ...] = (1,)


def attention_rates(
    target: Target, weights: Weights, stream: Stream, pulse: Pulse, threads: int, grid: AttentionGrid
) -> Iterator[AttentionRate]:
    """Of every kind of `grid` that `target` loads."""
    for heads in grid.heads:
        for bits in grid.cache_bits:
            for batch in grid.batches if (heads, bits) == (grid.heads[0], grid.cache_bits[0]) else (1,):
                try:
                    pair = [
                        _decoder(target, weights, heads, bits, n, batch, threads, grid.pasts[-1])
                        for n in _LAYERS
                    ]
                except BadInput:
                    continue
                yield from _rates(pair, stream, threads, grid, heads, bits, batch)
    for heads in grid.cached:
        for bits in grid.cache_bits:
            for batch in grid.cached_batches if bits == grid.cache_bits[0] else (1,):
                try:
                    pair = [
                        _decoder(target, weights, heads, bits, n, batch, threads, grid.pasts[-1])
                        for n in _LAYERS
                    ]
                except BadInput:
                    continue
                yield from _cached(pair, stream, pulse, threads, grid, heads, bits)


def _rates(
    pair: list[Decoder],
    stream: Stream,
    threads: int,
    grid: AttentionGrid,
    heads: tuple[int, int, int],
    bits: int,
    batch: int,
) -> Iterator[AttentionRate]:
    def rate(past: int, rows: int, seconds: Interval) -> AttentionRate:
        return AttentionRate(
            heads=heads[0],
            kv_heads=heads[1],
            head_size=heads[2],
            cache_bits=bits,
            past=past,
            rows=rows,
            batch=batch,
            threads=threads,
            seconds=seconds,
        )

    for rows in grid.chunks if batch == 1 else ():
        longer, shorter = _seconds(pair, stream, threads, rows, 0, grid.times)
        yield rate(0, rows, difference_of(longer, shorter, _MORE))
    after = stream.sample(threads)
    for past in grid.pasts:
        for decoder in pair:
            _fill(decoder, past)
        before = after
        longer, shorter = _seconds(pair, stream, threads, 1, past, grid.times)
        after = stream.sample(threads)
        meanwhile = statistics.mean((before, after))
        found = rate(past, 1, difference_of(longer, shorter, _MORE))
        size = _MORE * cache_bytes(found)
        yield rate(past, 1, difference_of(stream.usual(longer, size, meanwhile, threads), shorter, _MORE))


def _cached(
    pair: list[Decoder],
    stream: Stream,
    pulse: Pulse,
    threads: int,
    grid: AttentionGrid,
    heads: tuple[int, int, int],
    bits: int,
) -> Iterator[AttentionRate]:
    kind = dict(zip(("heads", "kv_heads", "head_size"), heads, strict=True))
    kind |= {"cache_bits": bits, "batch": pair[0].batch}
    each = pair[0].batch * heads[1] * heads[2] * 2 * bits // 8
    after = pulse.sample(threads)
    for past in grid.pasts:
        if past > grid.pasts[0] and _LAYERS[-1] * past * each > stream.last / 2:
            return
        taken, before = list[list[float]](), after
        for decoder in pair:
            _fill(decoder, past)
            settled(threads)
            taken.append([])
            for _ in range(_AGAIN * grid.times):
                taken[-1].append(_append(decoder, 1))
                decoder.rewind(past)
        after = pulse.sample(threads)
        meanwhile = statistics.mean((before, after))
        shorter, longer = (pulse.usual(some[grid.times :], meanwhile, threads) for some in taken)
        yield AttentionRate(
            **kind,
            past=past,
            rows=1,
            threads=threads,
            streamed=False,
            seconds=difference_of(longer, shorter, _MORE),
        )


def loop_seconds(target: Target, weights: Weights, threads: int, dispatch: float, times: int) -> Interval:
    """Seconds of a step of decoding beyond its nodes, of which the smaller graph has a few."""
    pair = [_decoder(target, weights, _HEADS, 32, n, 1, threads, 2 * times + 16) for n in _LAYERS]
    taken = list[list[float]]()
    for decoder in pair:
        settled(threads)
        taken.append([_append(decoder, 1) for _ in range(times)][times // 4 :])
    few, many = taken
    nodes = difference_of(many, few, _MORE).value + _OTHERS * dispatch
    return difference_of(few, [nodes], 1)


def decoder_rates(
    target: Target,
    weights: Weights,
    stream: Stream,
    pulse: Pulse,
    threads: int,
    decoders: Sequence[Sizes],
    times: int,
) -> Iterator[DecoderRate]:
    """Steps of whole decoders that `target` loads."""
    for one in decoders:
        room = _PAST + 2 * times
        try:
            made = _opened(target, weights, whole(weights, one, room), "decoder", room, 1, threads)
        except BadInput:
            continue
        _fill(made, _PAST)
        before = pulse.sample(threads), stream.sample(threads)
        settled(threads)
        taken = [_append(made, 1) for _ in range(times)][times // 4 :]
        pairs = zip(before, (pulse.sample(threads), stream.sample(threads)), strict=True)
        beat, read = map(statistics.mean, pairs)
        if one.bytes > 2 * stream.last:
            taken = stream.usual(taken, one.bytes, read, threads, pulse.faster(beat, threads))
        else:
            taken = pulse.usual(taken, beat, threads)
        yield DecoderRate(**asdict(one), past=_PAST, threads=threads, seconds=interval_of(taken))


def cache_bytes(one: AttentionRate) -> float:
    """What an attention reads of its cache, which is read once for all new tokens of a text."""
    return one.batch * one.past * one.kv_heads * one.head_size * 2 * one.cache_bits / 8


def _seconds(
    pair: list[Decoder], stream: Stream, threads: int, rows: int, past: int, times: int
) -> tuple[list[float], list[float]]:
    """Of a call of the second graph and of the first, several times, caches read from memory."""
    taken = list[list[float]]()
    for decoder in pair:
        settled(threads)
        taken.append([])
        for number in range(times):
            if rows == 1 or number == 0:  # wakes the threads, and makes memory
                decoder.append(_tokens(decoder.batch, rows))
                decoder.rewind(past)
            stream.flush()
            taken[-1].append(_append(decoder, rows))
            decoder.rewind(past)
    return taken[1], taken[0]


def _fill(decoder: Decoder, past: int) -> None:
    """Have `past` tokens in the cache. Where it has its place already, every page of that is written, and not
    every token: memory that was never written is read out of a cache."""
    if decoder.capacity is None:
        while decoder.length < past:
            decoder.append(_tokens(decoder.batch, min(_ROOM, past - decoder.length)))
        return
    while decoder.length < past:
        at = decoder.length
        decoder.append(_tokens(decoder.batch, 1))
        decoder.length = min(at + _WRITTEN, past)


def _append(decoder: Decoder, rows: int) -> float:
    tokens = _tokens(decoder.batch, rows)
    begun = time.perf_counter()
    decoder.append(tokens)
    return time.perf_counter() - begun


def _tokens(batch: int, rows: int) -> NDArray[np.int64]:
    return np.arange(batch * rows, dtype=np.int64).reshape(batch, rows) % VOCABULARY


def _decoder(
    target: Target,
    weights: Weights,
    heads: tuple[int, int, int],
    bits: int,
    layers: int,
    batch: int,
    threads: int,
    length: int,
) -> Decoder:
    """One whose cache has room for `length` tokens and a chunk."""
    room = length + _ROOM
    graph = attention(weights, *heads, bits, layers, room)
    return _opened(target, weights, graph, f"attention{layers}", room, batch, threads)


def _opened(
    target: Target, weights: Weights, graph: Graph, name: str, room: int, batch: int, threads: int
) -> Decoder:
    folder = weights.folder / name
    folder.mkdir(exist_ok=True)
    states = graph.states()
    model = graph.proto()
    shares = target.shares_cache(from_proto(model), states)
    said = {"model": {"context_length": room}, "search": {"past_present_share_buffer": shares}}
    (folder / "genai_config.json").write_text(json.dumps(said))
    path = weights.folder / f"{name}.onnx"
    path.write_bytes(model.SerializeToString())
    session = target.session(path, threads=threads)
    return target.decoder(folder, session, length=room, batch=batch, states=states)
