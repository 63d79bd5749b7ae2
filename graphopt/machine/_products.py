"""Products with a weight: how long they take, from memory for few rows and as in a model for many."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.errors import BadInput
from graphopt.machine._graphs import Product, Weights, products
from graphopt.machine._intervals import difference_of
from graphopt.machine._memory import Stream
from graphopt.machine._profile import Interval, ProductRate
from graphopt.machine._pulse import Pulse
from graphopt.machine._turns import turns

if TYPE_CHECKING:
    from graphopt.targets import Target

__all__ = ["Form", "ProductGrid", "Shape", "product_rates"]

Form = tuple[int, int, bool]
"""Bits, block and whether there are zero points."""
_TOGETHER = 4
"""Sessions that are open at a time and take turns: their weights are in memory twice."""
_OF_CACHE = 4
"""What part of the last cache the weights of a session fill whose weights are to come from it."""


@dataclass(frozen=True)
class Shape:
    """A weight [k, n] in `forms`: `streamed` rows meet weights like it out of memory, `cached` rows such out
    of the last cache, and `many` rows one alone."""

    k: int
    n: int
    forms: tuple[Form, ...]
    streamed: tuple[int, ...]
    cached: tuple[int, ...]
    many: tuple[int, ...]


@dataclass(frozen=True)
class ProductGrid:
    """`seconds` is how long each is measured, about."""

    shapes: tuple[Shape, ...]
    seconds: float


def product_rates(
    target: Target,
    weights: Weights,
    stream: Stream,
    pulse: Pulse,
    threads: int,
    grid: ProductGrid,
    overhead: float,
) -> Iterator[ProductRate]:
    """Of every product of `grid` that `target` loads, shape after shape; streamed ones as they are at the
    reference bandwidth of `stream`, those out of a cache as at the reference of `pulse`. A call of a graph
    takes `overhead` seconds beyond its nodes."""
    for shape in grid.shapes:
        kinds = [Product(*form, shape.k, shape.n) for form in shape.forms]
        for begin in range(0, len(kinds), _TOGETHER):
            group = kinds[begin : begin + _TOGETHER]
            for rows, size in (
                (shape.streamed, weights.size),
                (shape.cached, stream.last // _OF_CACHE),
                (shape.many, 0),
            ):
                if not rows:
                    continue
                streamed = size == weights.size
                copies = {one: max(1 + streamed, size // one.bytes) for one in group}
                sessions = _opened(target, weights, threads, copies)
                before = pulse.sample(threads) if size else 0.0
                reads = [stream.sample(threads)] if streamed else []
                found = _turns(sessions, rows, grid.seconds, threads, rounds=2 if size else 1)
                beat = (before + pulse.sample(threads)) / 2 if size else 0.0
                reads += [stream.sample(threads)] if streamed else []
                for (one, count), taken in found.items():
                    number, seconds = copies[one], taken
                    if streamed:
                        faster = pulse.faster(beat, threads)
                        read = statistics.mean(reads)
                        seconds = stream.usual(taken, number * one.bytes, read, threads, faster)
                    elif size:
                        seconds = pulse.usual(taken, beat, threads)
                    each = difference_of(seconds, [overhead], number)
                    yield _rate(one, count, threads, each, streamed=streamed)


def _turns(
    sessions: dict[Product, Any], rows: Sequence[int], seconds: float, threads: int, rounds: int
) -> dict[tuple[Product, int], list[float]]:
    rng = np.random.default_rng(0)
    groups = {
        one: {
            count: functools.partial(
                session.run, ["sum"], {"x": rng.standard_normal((count, one.k), np.float32)}
            )
            for count in rows
        }
        for one, session in sessions.items()
    }
    return turns(groups, seconds, threads, rounds)


def _opened(target: Target, weights: Weights, threads: int, copies: dict[Product, int]) -> dict[Product, Any]:
    found = {}
    for number, (one, count) in enumerate(copies.items()):
        path = products(weights, one, count).write(weights.folder / f"product{number}.onnx")
        try:
            found[one] = target.session(path, threads=threads)
        except BadInput:
            continue
    return found


def _rate(one: Product, rows: int, threads: int, seconds: Interval, *, streamed: bool) -> ProductRate:
    return ProductRate(
        bits=one.bits,
        block=one.block,
        zeros=one.zeros,
        k=one.k,
        n=one.n,
        rows=rows,
        threads=threads,
        streamed=streamed,
        seconds=seconds,
    )
