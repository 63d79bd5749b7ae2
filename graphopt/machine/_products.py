"""Products with a weight: how long they take, from memory for few rows and as in a model for many."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.errors import BadInput
from graphopt.machine._graphs import Product, Weights, products
from graphopt.machine._intervals import interval_of
from graphopt.machine._memory import Stream
from graphopt.machine._profile import ProductRate
from graphopt.machine._turns import turns

if TYPE_CHECKING:
    from graphopt.targets import Target

__all__ = ["Form", "ProductGrid", "Shape", "product_rates"]

Form = tuple[int, int, bool]
"""Bits, block and whether there are zero points."""
_TOGETHER = 4
"""Sessions that are open at a time and take turns: their weights are in memory twice."""
_COPIES = 2
"""Weights in a session for many rows: a model reads each once for all of them."""


@dataclass(frozen=True)
class Shape:
    """A weight [k, n] in `forms`. `few` rows meet weights out of memory, `many` rows a weight or two."""

    k: int
    n: int
    forms: tuple[Form, ...]
    few: tuple[int, ...]
    many: tuple[int, ...]


@dataclass(frozen=True)
class ProductGrid:
    """`seconds` is how long each is measured, about."""

    shapes: tuple[Shape, ...]
    seconds: float


def product_rates(
    target: Target, weights: Weights, stream: Stream, threads: int, grid: ProductGrid
) -> Iterator[ProductRate]:
    """Of every product of `grid` that `target` loads, shape after shape; streamed ones as they were at the
    bandwidth that `stream` has in the median by then."""
    for shape in grid.shapes:
        kinds = [Product(*form, shape.k, shape.n) for form in shape.forms]
        for _, alike in groupby(kinds, key=lambda one: one.bits):
            group = list(alike)
            for begin in range(0, len(group), _TOGETHER):
                part = group[begin : begin + _TOGETHER]
                yield from _streamed(target, weights, stream, threads, part, shape.few, grid.seconds)
                sessions = _opened(target, weights, threads, dict.fromkeys(part, _COPIES))
                for (one, rows), taken in _turns(sessions, shape.many, grid.seconds, threads).items():
                    yield _rate(one, rows, threads, [s / _COPIES for s in taken], streamed=False)


def _streamed(
    target: Target,
    weights: Weights,
    stream: Stream,
    threads: int,
    group: Sequence[Product],
    few: Sequence[int],
    seconds: float,
) -> Iterator[ProductRate]:
    if not few:
        return
    copies = {one: max(2, weights.size // one.bytes) for one in group}
    sessions = _opened(target, weights, threads, copies)
    before = stream.sample(threads)
    found = _turns(sessions, few, seconds, threads)
    meanwhile = statistics.mean((before, stream.sample(threads)))
    for (one, rows), taken in found.items():
        each = [s / copies[one] for s in taken]
        yield _rate(one, rows, threads, stream.usual(each, one.bytes, meanwhile, threads), streamed=True)


def _turns(
    sessions: dict[Product, Any], rows: Sequence[int], seconds: float, threads: int
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
    return turns(groups, seconds, settle=threads > 1)


def _opened(target: Target, weights: Weights, threads: int, copies: dict[Product, int]) -> dict[Product, Any]:
    found = {}
    for number, (one, count) in enumerate(copies.items()):
        path = products(weights, one, count).write(weights.folder / f"product{number}.onnx")
        try:
            found[one] = target.session(path, threads=threads)
        except BadInput:
            continue
    return found


def _rate(one: Product, rows: int, threads: int, seconds: Sequence[float], *, streamed: bool) -> ProductRate:
    return ProductRate(
        bits=one.bits,
        block=one.block,
        zeros=one.zeros,
        k=one.k,
        n=one.n,
        rows=rows,
        threads=threads,
        streamed=streamed,
        seconds=interval_of(seconds),
    )
