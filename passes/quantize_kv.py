"""quantize-kv: the cache of keys and values in 8-bit integers."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from graphopt.calibrate import Stream
from graphopt.errors import BadInput
from graphopt.ir import MICROSOFT, consumers, save_model, static_dim
from graphopt.pipeline import Bridge, Context, Contract, Edit, Edits, Level, NearMiss, Nodes, Pass
from graphopt.runtime import Decoder, open_session
from graphopt.targets import Target

from ._adapters import QuantizedCache
from ._own_text import continued, opened

_SCALES = slice(12, 14)  # GroupQueryAttention's inputs k_scale and v_scale
_RANDOM = 4  # tokens that a drawn text begins with, so that texts differ. A judgement
_INPUTS = 17  # all that it has with query_seqlens, the last


class QuantizeKv(Pass):
    """The cache of GroupQueryAttention becomes int8, with a scale for each channel of each head.

    Before: GroupQueryAttention(.., past_key, past_value), the cache float32
    After:  GroupQueryAttention(.., past_key, past_value, .., k_scale, v_scale), the cache int8
    A quarter of the bytes, and attention over a long past has less to read. The largest magnitude of each
    channel in the calibration text is levelled to 127; anything beyond is clipped. Without such text it is
    that of texts which the model draws after a few random tokens. They are decisions, replayed from a lock.
    Refuses: a cache that is no input and output of the graph, is used elsewhere, is not float32, or is
    quantized already; a model that cannot be run on tokens alone.
    """

    name: ClassVar[str] = "quantize-kv"
    level: ClassVar[Level] = Level.COMPRESS
    contract: ClassVar[Contract] = Contract.lossy("sqnr", 30.0)
    main_graph_only: ClassVar[bool] = True

    @dataclass(frozen=True)
    class Options:
        """texts and tokens: how many texts, each of how many tokens, are drawn where there is none to read;
        margin: how much larger than what was seen a value may be before it is clipped.
        """

        texts: int = 4
        tokens: int = 64
        margin: float = 1.1

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        found = []
        for node in graph:
            if (node.domain, node.op_type) == ("", "Attention") and any(node.inputs[4:6]):
                yield NearMiss(node.name or node.op_type, "only GroupQueryAttention takes a cache in int8")
            if node.domain != MICROSOFT or node.op_type != "GroupQueryAttention":
                continue
            reason = _unfit(node)
            if reason is None:
                found.append(node)
            else:
                yield NearMiss(node.name or node.op_type, reason)
        if not found:
            return
        stream = context.stream()
        if isinstance(stream, str):
            try:
                largest = context.decide(self.name, lambda: self._drawn(found, context))
            except BadInput as error:
                yield NearMiss(self.name, f"the model cannot be run on tokens: {error}")
                return
        else:
            largest = context.decide(self.name, lambda: _read(found, stream))
        for node in found:
            yield _quantized(node, largest, self.options.margin)

    def _drawn(self, nodes: list[ir.Node], context: Context) -> dict[str, list[float]]:
        """By cache input, the largest magnitudes in texts that the model draws."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            save_model(context.model, path)
            decoder = _decoder(context.target, path, self.options)
            count, rng = self.options.tokens, np.random.default_rng(0)
            prompt = opened(decoder, min(_RANDOM, count), context.config.get("bos_token_id"), rng)
            continued(decoder, prompt, count + 1, rng)
            cache = decoder.cache()
        return {
            name: _digits(_channels(cache[name], node, rotated=rotated))
            for node in nodes
            for name, rotated in zip(_pasts(node), (True, False), strict=True)
        }


def _read(nodes: list[ir.Node], stream: Stream) -> dict[str, list[float]]:
    """By cache input, the largest magnitudes in the calibration text."""
    found: dict[str, list[float]] = {}
    for node in nodes:
        largest: list[NDArray[np.float32]] = []
        for caches in stream.values(node.outputs[1:3]):
            seen = [_channels(x, node, rotated=not i) for i, x in enumerate(caches)]
            largest = [np.maximum(a, b) for a, b in zip(largest or seen, seen, strict=True)]
        found |= dict(zip(_pasts(node), map(_digits, largest), strict=True))
    return found


def _pasts(node: ir.Node) -> list[str]:
    return [past.name for past in node.inputs[3:5] if past is not None and past.name is not None]


def _channels(cache: NDArray[np.float32], node: ir.Node, *, rotated: bool) -> NDArray[np.float32]:
    """The largest magnitude in each channel of each head, [heads, size], of keys at any position."""
    channels = np.abs(cache)
    if rotated:
        _at_any_position(channels, node)
    largest: NDArray[np.float32] = channels.max((0, 2))
    return largest


def _digits(largest: NDArray[np.float32]) -> list[float]:
    return [float(f"{x:.3g}") for x in largest.ravel()]


def _decoder(target: Target | None, path: Path, options: QuantizeKv.Options) -> Decoder:
    """What runs the graph at `path`: the target it is made for, where there is one."""
    if target is None:
        return Decoder(open_session(path), batch=options.texts)
    return target.decoder(path.parent, target.session(path), length=options.tokens, batch=options.texts)


def _at_any_position(keys: NDArray[np.float32], node: ir.Node) -> None:
    """Replace the magnitudes of two channels that `node` rotates into each other by that of both together.

    A text that is longer than those looked at turns slow pairs to angles that were not seen.
    """
    one, other = _rotated(node)
    keys[..., one] = keys[..., other] = np.hypot(keys[..., one], keys[..., other])


def _rotated(node: ir.Node) -> tuple[slice, slice]:
    """Which channels of a key `node` rotates into which others."""
    half = static_dim(node.inputs[7], 1) if node.attributes.get_int("do_rotary", 0) else None
    if half is None:
        return slice(0), slice(0)
    if node.attributes.get_int("rotary_interleaved", 0):
        return slice(0, 2 * half, 2), slice(1, 2 * half, 2)
    return slice(half), slice(half, 2 * half)


def _unfit(node: ir.Node) -> str | None:
    """Why the cache of a GroupQueryAttention cannot be made int8, if it cannot."""
    if any(value is not None for value in node.inputs[_SCALES]):
        return "its cache is quantized already"
    past, present = node.inputs[3:5], node.outputs[1:3]
    if len(present) != 2 or any(v is None or not v.is_graph_input() or len(v.uses()) != 1 for v in past):
        return "its past is not a graph input, or has another use"
    if any(not v.is_graph_output() or consumers(v) for v in present):
        return "its present is not a graph output, or has another use"
    if any(v is None or v.dtype != ir.DataType.FLOAT for v in past):
        return "its cache is not float32"
    if any(static_dim(v, 1) is None or static_dim(v, 3) is None for v in past):
        return "the number or the size of its heads is not known"
    return None


def _quantized(node: ir.Node, largest: dict[str, list[float]], margin: float) -> Edit:
    make = Nodes(node.name or "attention")
    inputs: list[ir.Value | None] = [*node.inputs, *[None] * (_INPUTS - len(node.inputs))]
    pasts, presents = [v for v in node.inputs[3:5] if v is not None], node.outputs[1:3]
    heads = static_dim(pasts[0], 1)
    assert heads is not None
    scales = np.stack([_levels(largest[past.name or ""], margin) for past in pasts]).reshape(2, heads, -1)
    taken = [_int8(past) for past in pasts]
    inputs[3:5] = taken
    inputs[_SCALES] = [
        make.constant(scale[None, :, None, :], np.float32, f"{kind}_scale")
        for kind, scale in zip("kv", scales, strict=True)
    ]
    results = make.many(
        node.op_type,
        inputs,
        "int8",
        [node.outputs[0], *map(_int8, presents)],
        domain=MICROSOFT,
        **dict(node.attributes),
        k_quant_type="PER_CHANNEL",
        v_quant_type="PER_CHANNEL",
        kv_cache_bit_width=8,
    )
    return Edit(
        "cache in int8",
        remove=[node],
        insert=make.nodes,
        initializers=make.initializers,
        replace=dict(zip(node.outputs, results, strict=True)),
        add_inputs=taken,
        drop_inputs=pasts,
        adapter=QuantizedCache(
            tuple(v.name or "" for v in pasts),
            tuple(v.name or "" for v in presents),
            heads,
            tuple(map(float, scales.ravel())),
        ),
        bridge=lambda: _in_float(node, results, taken, scales),
    )


def _in_float(
    node: ir.Node, results: Sequence[ir.Value], taken: Sequence[ir.Value], scales: NDArray[np.float32]
) -> Bridge:
    """The int8 form from float caches to float caches, on values that its scales are made for."""
    make = Nodes(f"{node.name or 'attention'}/check")
    pasts = [past for past in node.inputs[3:5] if past is not None]
    feeds, dequantized = {}, {}
    for past, present, inner, outer, scale in zip(
        pasts, node.outputs[1:3], taken, results[1:3], scales, strict=True
    ):
        by = make.constant(scale[:, None, :], np.float32, "scale")
        levels = make.op("Round", [make.op("Div", [past, by], "levels", like=past)], "rounded", like=past)
        lowest, highest = (make.constant(x, np.float32, "limit") for x in (-128, 127))
        kept = make.op("Clip", [levels, lowest, highest], "kept", like=past)
        feeds[inner] = make.op("Cast", [kept], "integers", like=inner, to=ir.DataType.INT8)
        numbers = make.op("Cast", [outer], "numbers", like=present, to=ir.DataType.FLOAT)
        dequantized[present] = make.op("Mul", [numbers, by], "present", like=present)
    return Bridge(make.nodes, feeds, dequantized, dict(_within(node, pasts, scales * np.float32(127))))


def _within(
    node: ir.Node, pasts: Sequence[ir.Value], most: NDArray[np.float32]
) -> Iterator[tuple[ir.Value, NDArray[np.float32]]]:
    """The values that `node` takes, with how large they may be for caches of at most `most` to hold them."""
    yield from zip(pasts, most[:, :, None, :], strict=True)
    keys, values = most.copy()
    for channels in _rotated(node):  # at 45 degrees a pair is as long as both together
        keys[:, channels] /= np.float32(np.sqrt(2))
    query, key, value = node.inputs[:3]
    if key is not None and value is not None:
        yield key, keys.ravel()
        yield value, values.ravel()
    elif query is not None:
        heads = node.attributes.get_int("num_heads", 0)
        free = np.full(heads * keys.shape[1], np.inf, np.float32)
        yield query, np.concatenate([free, keys.ravel(), values.ravel()])


def _levels(largest: list[float], margin: float) -> NDArray[np.float32]:
    """The scale of each channel; a channel that was always zero gets one, so that it stays zero."""
    scales = np.asarray(largest, np.float32) * np.float32(margin / 127)
    return np.where(scales > 0, scales, np.float32(1))


def _int8(value: ir.Value) -> ir.Value:
    return ir.Value(name=value.name, shape=value.shape, type=ir.TensorType(ir.DataType.INT8))
