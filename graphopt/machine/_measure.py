"""Measuring a machine: memory, products, attention, operators and what the runtime itself takes."""

from __future__ import annotations

import datetime
import functools
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from graphopt.errors import BadInput
from graphopt.machine._attention import AttentionGrid, attention_rates, decoder_rates, loop_seconds
from graphopt.machine._decoders import Sizes
from graphopt.machine._float_sets import float_sets
from graphopt.machine._graphs import Graph, Product, Weights
from graphopt.machine._graphs import products as block_products
from graphopt.machine._intervals import difference_of, interval_of, scaled
from graphopt.machine._memory import Stream, memory_bytes
from graphopt.machine._numa import far_rates
from graphopt.machine._operators import PROBES, dispatch_seconds, operator_rates
from graphopt.machine._products import ProductGrid, Shape, product_rates
from graphopt.machine._profile import (
    AttentionRate,
    DecoderRate,
    Interval,
    MemorySample,
    OperatorRate,
    ProductRate,
    Profile,
    SetRate,
    Tier,
)
from graphopt.machine._pulse import Pulse
from graphopt.machine._samples import with_memory
from graphopt.machine._turns import repeated

if TYPE_CHECKING:
    from graphopt.targets import Target

__all__ = ["FULL", "SMALL", "Grid", "measure", "sample_memory"]

_FLOATS, _INTEGERS = "fp32", "int8"
_PEAK = 8  # times as long, since the best is asked for
_PAUSE = 3.0
"""Seconds between samples of memory over time."""
_REPEATS = 31
_STEPS = 40
_OPENED = 3
_RESIDENT = """
import importlib, os, pathlib, sys
module, name, path = sys.argv[1:]
session = getattr(importlib.import_module(module), name)().session(pathlib.Path(path), threads=1)
print(int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE"))
"""

_FORMS = tuple((bits, block, False) for bits in (4, 8, 2) for block in (32, 64, 128, 256))
_ZEROS = ((4, 128, True),)
_FEW = ((4, 32, False), (4, 128, False), (8, 32, False), (8, 128, False), (2, 64, False))
_USUAL = ((4, 32, False), (4, 128, False), (8, 32, False), (8, 128, False))
_FLOAT = ((32, 0, False),)


@dataclass(frozen=True)
class Grid:
    """What is measured. `weights` are bytes of what streams, None: three times the last cache."""

    products: ProductGrid
    attention: AttentionGrid
    operators: tuple[str, ...]
    decoders: tuple[Sizes, ...]
    peak: tuple[int, int, int]
    weights: int | None = None
    samples: int = 8
    seconds: float = 0.016


FULL = Grid(
    ProductGrid(
        (
            # Floats first: onnxruntime packs them anew, as in a new process into memory nobody has used.
            Shape(2048, 8192, _FLOAT, (1,), (), (64,)),
            Shape(8192, 2048, _FLOAT, (1,), (), (64,)),
            Shape(2048, 2048, _FLOAT, (1, 4, 8), (1, 8), (64, 512)),
            Shape(2048, 2048, tuple(sorted((*_FORMS, *_ZEROS))), (1, 4, 8), (1, 8), (64, 512)),
            Shape(2048, 8192, _USUAL, (1, 8), (), (64,)),
            Shape(8192, 2048, _USUAL, (1, 8), (), (64,)),
            Shape(576, 1536, (*_FEW, *_FLOAT), (1, 4), (1, 8), (64, 512)),
            Shape(256, 256, ((4, 128, False), *_FLOAT), (), (1, 8), (64, 512)),
        ),
        seconds=0.022,
    ),
    AttentionGrid(
        heads=((32, 8, 64), (32, 8, 128)),
        cache_bits=(32, 8),
        chunks=(32, 128, 512),
        pasts=(16, 256, 2048),
        batches=(1, 4),
        times=3,
        cached=((8, 2, 64),),
        cached_batches=(1, 8),
    ),
    tuple(PROBES),
    (
        Sizes(6, 1536, 6144, 24, 8, 64, 4096),
        Sizes(42, 640, 1728, 10, 2, 64, 4096),
        Sizes(6, 320, 896, 5, 1, 64, 4096),
    ),
    (512, 2048, 4096),
)
SMALL = Grid(
    ProductGrid((Shape(512, 512, ((4, 32, False), (32, 0, False)), (1,), (1,), (8,)),), seconds=0.001),
    AttentionGrid(((2, 1, 64),), (32, 8), (4,), (4, 8), (1,), times=1, cached=((2, 1, 64),)),
    ("Add", "RMSNormalization"),
    (Sizes(2, 64, 128, 2, 1, 32, 64),),
    (8, 64, 64),
    weights=8 << 20,
    samples=2,
    seconds=0.001,
)


def measure(
    target: Target,
    threads: Sequence[int],
    *,
    minutes: float = 0.0,
    say: Callable[[str], None] = lambda text: None,
    grid: Grid = FULL,
) -> Profile:
    """The profile of this machine on `target`, for each of `threads`.

    With `minutes` memory is sampled for so long after that: on a virtual machine it changes by half within
    minutes.
    """
    began = time.perf_counter()
    say("memory")
    stream = Stream(grid.weights)
    for count in threads:
        for _ in range(grid.samples):
            stream.sample(count)
    tiers = stream.cache_tiers(threads)
    read = {count: interval_of([one.read for one in stream.samples[count]]) for count in threads}
    stream.reference = {count: rate.value for count, rate in read.items()}
    pulse = Pulse(target)
    pulses = {count: interval_of([pulse.sample(count) for _ in range(grid.samples)]) for count in threads}
    pulse.reference = {count: one.value for count, one in pulses.items()}
    memory = Tier(name="DRAM", bytes=memory_bytes(), read=read)
    sets = {count: stream.working_sets(count) for count in threads}
    far = far_rates(stream.bytes, threads[-1])
    with tempfile.TemporaryDirectory(prefix="graphopt-profile-") as folder:
        weights = Weights(Path(folder), grid.weights or max(3 * stream.last, 64 << 20))
        found = _begun(target, (*tiers, memory), far)
        parts = [_of_threads(target, weights, stream, pulse, count, grid, say) for count in threads]
        say("opening sessions")
        session, opening = _opening(target, weights)
        resident = _process_bytes(target, weights)
    found = found.model_copy(
        update={
            "peaks": {
                kind: {count: part.peaks[kind] for count, part in zip(threads, parts, strict=True)}
                for kind in parts[0].peaks
            },
            "dispatch": {count: part.dispatch for count, part in zip(threads, parts, strict=True)},
            "loop": {
                count: part.loop for count, part in zip(threads, parts, strict=True) if part.loop is not None
            },
            "products": tuple(one for part in parts for one in part.products),
            "attention": tuple(one for part in parts for one in part.attention),
            "operators": tuple(one for part in parts for one in part.operators),
            "working_sets": sets,
            "float_sets": tuple(one for part in parts for one in part.float_sets),
            "pulse": pulses,
            "decoders": tuple(one for part in parts for one in part.decoders),
            "noise": parts[-1].noise,
            "session": session,
            "opening": opening,
            "process_bytes": resident,
            "seconds": time.perf_counter() - began,
        }
    )
    return with_memory(found, _sampled(stream, threads, minutes, say))


def _begun(target: Target, tiers: Sequence[Tier], far: Sequence[float]) -> Profile:
    """Memory, and whose: what is computed comes later. The last of `tiers` is the machine's memory."""
    fingerprint = target.fingerprint()
    return Profile(
        name=target.name,
        title=fingerprint.get("processor", ""),
        kind="measured",
        target=target.name,
        identity=fingerprint,
        date=datetime.date.today(),
        memory_bytes=tiers[-1].bytes,
        tiers=tuple(tiers),
        peaks={},
        links={"numa": interval_of(far)} if far else {},
    )


def sample_memory(
    threads: Sequence[int], minutes: float, say: Callable[[str], None] = lambda text: None
) -> list[MemorySample]:
    """Samples of memory's bandwidth, one for each of `threads` every few seconds for so many `minutes`, at
    least one: what `with_memory` takes."""
    stream = Stream()
    for count in threads:
        stream.sample(count)
    return _sampled(stream, threads, minutes, say)


def _sampled(
    stream: Stream, threads: Sequence[int], minutes: float, say: Callable[[str], None]
) -> list[MemorySample]:
    ends = time.perf_counter() + 60 * minutes
    while (left := ends - time.perf_counter()) > 0:
        say(f"memory over time: {left:.0f} s to go")
        for count in threads:
            stream.sample(count)
        time.sleep(min(_PAUSE, max(ends - time.perf_counter(), 0)))
    return [one for samples in stream.samples.values() for one in samples]


@dataclass(frozen=True)
class _Part:
    """What was measured with so many threads."""

    peaks: dict[str, Interval]
    dispatch: Interval
    loop: Interval | None
    products: tuple[ProductRate, ...]
    attention: tuple[AttentionRate, ...]
    operators: tuple[OperatorRate, ...]
    decoders: tuple[DecoderRate, ...]
    float_sets: tuple[SetRate, ...]
    noise: Interval


def _of_threads(
    target: Target,
    weights: Weights,
    stream: Stream,
    pulse: Pulse,
    threads: int,
    grid: Grid,
    say: Callable[[str], None],
) -> _Part:
    said = f"with {threads} {'thread' if threads == 1 else 'threads'}"
    say(f"products {said}")
    before = pulse.sample(threads)
    dispatch, overhead = dispatch_seconds(target, weights, threads, grid.seconds)
    dispatch = scaled(dispatch, pulse.faster((before + pulse.sample(threads)) / 2, threads))
    products = tuple(product_rates(target, weights, stream, pulse, threads, grid.products, overhead))
    peaks, noise = _peaks(target, weights, threads, grid)
    say(f"attention {said}")
    attention = tuple(attention_rates(target, weights, stream, pulse, threads, grid.attention))
    say(f"operators {said}")
    try:
        before = pulse.sample(threads)
        loop = loop_seconds(target, weights, threads, dispatch.value, _STEPS)
        loop = scaled(loop, pulse.faster((before + pulse.sample(threads)) / 2, threads))
    except BadInput:
        loop = None
    operators = tuple(
        operator_rates(target, weights, pulse, threads, grid.seconds, grid.operators, dispatch.value)
    )
    decoders = tuple(decoder_rates(target, weights, stream, pulse, threads, grid.decoders, _STEPS))
    floats = tuple(float_sets(target, weights, weights.size // 3, threads))
    return _Part(peaks, dispatch, loop, products, attention, operators, decoders, floats, noise)


def _peaks(
    target: Target, weights: Weights, threads: int, grid: Grid
) -> tuple[dict[str, Interval], Interval]:
    """Operations a second of large products of floats and of integers, and the noise of the last of them."""
    rows, k, n = grid.peak
    rng = np.random.default_rng(0)
    floats = {"x": rng.standard_normal((rows, k), np.float32)}
    integers = {"x": rng.integers(0, 200, (rows, k)).astype(np.uint8)}
    found = dict[str, Interval]()
    run: Callable[[], object] | None = None
    for kind, graph, feeds in (
        (_INTEGERS, _integers(weights, k, n), integers),
        (_INTEGERS, block_products(weights, Product(8, 128, False, k, n), 1), floats),
        (_INTEGERS, block_products(weights, Product(4, 128, False, k, n), 1), floats),
        (_FLOATS, block_products(weights, Product(32, 0, False, k, n), 1), floats),
    ):
        try:
            session = target.session(graph.write(weights.folder / "peak.onnx"), threads=threads)
        except BadInput:
            continue
        times = repeated(functools.partial(session.run, None, feeds), _PEAK * grid.seconds)
        rate = interval_of([2 * rows * k * n / seconds for seconds in times])
        if kind not in found or rate.value > found[kind].value:
            found[kind] = rate
        run = functools.partial(session.run, None, {"x": feeds["x"][: max(1, rows // 16)]})
    if run is None:
        raise BadInput(f"target {target.name!r} loads no product: there is nothing to measure")
    taken = [_seconds(run) for _ in range(_REPEATS)]
    return found, interval_of([after / before for before, after in pairwise(taken[1:])])


def _integers(weights: Weights, k: int, n: int) -> Graph:
    graph = Graph(weights)
    graph.input("x", np.uint8, ["rows", k])
    graph.weight("w", np.uint8, (k, n))
    graph.node("MatMulInteger", ["x", "w"], [graph.output("y", np.int32, ["rows", n])])
    return graph


def _opening(target: Target, weights: Weights) -> tuple[Interval, Interval]:
    """Seconds of opening a session of next to nothing, and more for each byte of weights."""
    one = Product(4, 128, False, 2048, 2048)
    copies = weights.size // one.bytes
    try:
        large = block_products(weights, one, copies).write(weights.folder / "large.onnx")
        target.session(large, threads=1)
    except BadInput:
        one = Product(32, 0, False, 512, 512)
        copies = weights.size // one.bytes
        large = block_products(weights, one, copies).write(weights.folder / "large.onnx")
    taken = {
        path: [_seconds(functools.partial(target.session, path, threads=1)) for _ in range(_OPENED)]
        for path in (_small(weights), large)
    }
    small, more = taken.values()
    return interval_of(small), difference_of(more, small, copies * one.bytes)


def _small(weights: Weights) -> Path:
    return block_products(weights, Product(32, 0, False, 32, 32), 1).write(weights.folder / "small.onnx")


def _process_bytes(target: Target, weights: Weights) -> Interval | None:
    """What a new process has resident that opened a session of next to nothing; None where nothing tells."""
    kind = type(target)
    command = [sys.executable, "-c", _RESIDENT, kind.__module__, kind.__qualname__, str(_small(weights))]
    try:
        told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
        return interval_of([float(told)])
    except (subprocess.SubprocessError, ValueError, OSError):
        return None


def _seconds(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun
