"""Numbers for values that nothing says the meaning of: ordinary ones, and where things happen."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import ml_dtypes
import numpy as np
import onnx_ir as ir

from graphopt.verify._text import made_up_text
from graphopt.verify._window import Leaf, Window

__all__ = [
    "FLAGS",
    "FLOATS_IN_WORDS",
    "INTEGERS_IN_WORDS",
    "SCALES",
    "VARIANTS",
    "WIDE",
    "Points",
    "free_floats",
    "free_integers",
]

_COMPLEX = (ir.DataType.COMPLEX64, ir.DataType.COMPLEX128)
FLAGS, WIDE = 2, 1 << 40
"""Bounds of integers: zeros and ones, which any meaning allows, and what 32 bits do not hold."""
VARIANTS = ("normal", "zeros", "small", "large", "huge", "not finite")
"""Kinds of free floats: normally distributed, all zero, all small; few large, beyond 32 bits, not finite."""
SCALES = {"small": 1e-3, "wide": 16.0}
"""Small: where an epsilon counts. Wide: beyond what a scale that was fitted to normal values covers."""
FLOATS_IN_WORDS = {
    "normal": "normally distributed inputs",
    "zeros": "inputs of zeros",
    "small": "normally distributed inputs times 1e-3",
    "wide": "normally distributed inputs times 16",
    "large": "inputs some of which are 1e4",
    "huge": "inputs some of which are 1e10",
    "not finite": "inputs with NaN and infinities",
    "points": "inputs at the constants of the window and next to them",
}
INTEGERS_IN_WORDS = {
    "flags": "",
    "places": "any indices in range",
    "from the end": "indices counted from the end, too",
    "points": "integers at the constants of the window and next to them",
    "below": "integers below {}",
    "limits": "integers at the ends of their type",
}

_LARGE, _HUGE = 1e4, 1e10
"""Large: its square and its float16 are finite. Huge: its square is, and no 32-bit integer holds it."""
_NEAR, _APART, _FAR = 1e-3, 1e3, 1e10
"""Constants below the first are epsilons; above the second a sum with usual values shows only them, so they
come in calls of their own; of sums, those above the third are not finite."""
_CONSTANTS, _PAIRED = 12, 4
"""How many constants of a window are values, and how many are combined. A judgement: each adds points."""
# Both zeros, whole numbers and halves (on which roundings differ), and both signs: where formulas part.
_FLOATS = (0.0, -0.0, 0.5, -0.5, 1.5, 2.5, 1.0, -1.0, 2.0, -2.0, 3.0)
_INTEGERS = (-1, -2, -3, 0, 1, 2, 3, -5, -7)  # places from both ends, and primes that divide nothing else

Point = tuple[float, int]
"""A number, and which of its neighbours is meant: 0 itself, 1 the next one, -1 the one before."""


@dataclass(frozen=True)
class Points:
    """Values at which something may happen in a window, by its constants, in groups that fit together.

    `floats` apart by magnitude, so that none hides the others; `integers`: what the constants say, and then
    the ends of each type. `near`: how small values are next to which a small constant counts.
    """

    floats: tuple[tuple[Point, ...], ...]
    integers: tuple[tuple[int, ...], ...]
    near: tuple[float, ...]

    @classmethod
    def of(cls, window: Window) -> Points:
        numbers = [n for n in window.numbers if n == n][:_CONSTANTS]
        own = [(n, side) for n in numbers if n for side in (0, 1, -1)]
        own += [
            (s * k, 0) for s in window.steps[:_PAIRED] for k in (0.5, 1.5, -2.5, 127.5, -128, -128.5, 255)
        ]
        own += [(-n, 0) for n in numbers] + [(2 * n, 0) for n in numbers]
        plain = [p for p in own if abs(p[0]) <= _APART]
        most = _FAR if window.adds_up else math.inf  # sums of what is larger are not finite
        far = [p for p in own if _APART < abs(p[0]) <= most]
        whole = [round(n) for n in numbers if abs(n) < 1 << 62]
        whole += [n for _, n in window.lengths][:_CONSTANTS]
        near = dict.fromkeys(
            scale
            for n in numbers
            if 0 < abs(n) <= _NEAR
            for scale in (abs(n) ** 0.5, abs(n))
            if scale < _NEAR
        )
        return cls(
            tuple(group for group in (_unique((*plain, *((n, 0) for n in _FLOATS))), _unique(far)) if group),
            (_unique((*_around(whole), *_INTEGERS)), ()),
            tuple(near)[:4],
        )


def _around(numbers: Sequence[int]) -> Iterator[int]:
    """Each with its neighbours and negative, and what differs from two of them by addition."""
    yield from (n + d for n in numbers for d in (0, 1, -1))
    yield from (-n + d for n in numbers for d in (0, 1, -1) if abs(n) > 1)
    for a, b in product(numbers[:_PAIRED], repeat=2):
        if a != b:
            yield from (a + b, a - b)


def _unique(points: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(dict.fromkeys(points))


def free_floats(
    shape: tuple[int, ...],
    leaf: Leaf,
    variant: str,
    rng: np.random.Generator,
    points: Sequence[Point],
    turn: int,
) -> np.ndarray:
    """Floats of a kind of `VARIANTS`, or "wide", "points" (from the `turn`-th on), "near SCALE"."""
    kind = leaf.dtype.numpy()
    values = rng.standard_normal(shape)
    if leaf.within is not None:
        most = leaf.within.array()
        bounded = np.isfinite(most)
        return np.where(bounded, rng.uniform(-1, 1, shape) * np.where(bounded, most, 0), values).astype(kind)
    if variant == "points":
        finite = [n for p in points if np.isfinite(n := _float(p, kind))] or [0.0]
        return _chosen(finite, shape, rng, turn).astype(kind)
    if variant == "zeros":
        values[...] = 0
    values *= SCALES.get(variant, 1.0)
    if variant.startswith("near "):  # rows of them some times smaller and larger
        values *= float(variant.removeprefix("near "))
        values *= 10 ** rng.uniform(-0.5, 0.5, (*shape[:-1], 1)[: len(shape)])
    flat = values.reshape(-1)
    if variant in ("large", "huge") and flat.size:
        largest = _LARGE if variant == "large" else _HUGE if leaf.dtype.bitwidth >= 32 else _LARGE * 6
        _put(flat, (largest, -largest, largest / 3), rng)
    if variant == "not finite" and flat.size:
        _put(flat, (np.nan, np.inf, -np.inf), rng)
    with np.errstate(over="ignore"):
        return values.astype(kind)


def _put(values: np.ndarray, special: Sequence[float], rng: np.random.Generator) -> None:
    """Set as many of `values` to `special` ones as there is room for, each at a place of its own."""
    count = min(len(special), values.size)
    values[rng.choice(values.size, count, replace=False)] = special[:count]


def _float(point: Point, kind: np.dtype[Any]) -> float:
    number, side = point
    with np.errstate(over="ignore", under="ignore"):
        near = np.asarray(number).astype(kind)
        if side:
            near = np.nextafter(near, np.asarray(np.inf * side).astype(kind))
    return float(near)


def _chosen(points: Sequence[Any], shape: tuple[int, ...], rng: np.random.Generator, turn: int) -> np.ndarray:
    """The next so many of `points` in the first half, any of them in the second, so that values meet."""
    size = int(np.prod(shape))
    own = size - size // 2
    array = np.asarray(points)
    order = (turn * own + np.arange(own)) % len(points)
    return np.concatenate([array[order], rng.choice(array, size - own)]).reshape(shape)


def free_integers(
    shape: tuple[int, ...],
    leaf: Leaf,
    mode: str,
    rng: np.random.Generator,
    points: Points,
    turn: int,
    *,
    bound: int,
    places: int | None,
    numerals: bool = False,
) -> np.ndarray:
    """Integers of a `mode`; those that pick places of an axis of `places` stay below it where it is known.

    flags: zeros and ones. places: of those that pick, any of the axis; from the end, counted from there too.
    below: any below `bound`, negative too if that is `WIDE`. points and limits: those of `points`, or the
    ends of the type and anything between.
    """
    kind = leaf.dtype.numpy()
    if leaf.dtype == ir.DataType.STRING:
        return made_up_text(shape, leaf.words, rng, numerals=numerals)
    if leaf.dtype in _COMPLEX:
        return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(kind)
    if leaf.dtype == ir.DataType.BOOL:
        return rng.integers(0, 2, shape).astype(bool)
    limits = ml_dtypes.iinfo(kind)  # type: ignore[no-untyped-call]
    least, most = int(limits.min), int(limits.max)
    if leaf.sizes or mode in ("flags", "places", "from the end") or (leaf.picks and mode != "below"):
        picked = places or FLAGS if leaf.picks else FLAGS
        high = FLAGS if mode == "flags" else 4 if leaf.sizes else picked
        low = -high if leaf.picks and mode == "from the end" else 0
        low, high = max(low, least), min(high, most + 1)
        near = [n for n in points.integers[0] if low <= n < high] if mode == "points" else []
        ends = [high - 1, low, *near]
        values = (
            _spread(np.arange(low, high), ends, shape, rng) if leaf.picks else rng.integers(low, high, shape)
        )
    elif mode == "points":
        values = _chosen([n for n in points.integers[0] if least <= n <= most], shape, rng, turn)
    elif mode == "limits":
        ends = [
            most,
            least,
            most - 1,
            least + 1,
            *(n for n in (1 << 31, -(1 << 31), 1 << 53) if least <= n <= most),
        ]
        values = _chosen(ends, shape, rng, turn)
        wide = rng.integers(least, most, shape, dtype=np.uint64 if least == 0 else np.int64)
        values = np.where(rng.integers(0, 2, shape) == 1, wide.astype(kind), values.astype(kind))
        if not shape:
            values = np.asarray(ends[turn % len(ends)])
    else:
        low = max(-bound if bound == WIDE else 0, least // 4)
        values = rng.integers(low, max(min(bound, most), low + 1), shape)
    values = np.asarray(values)
    if leaf.divides:  # the kernels of some divisions end the process
        values = np.where((values == 0) | (values == -1), 3, values)
    return values.astype(kind)


def _spread(
    every: np.ndarray, first: Sequence[int], shape: tuple[int, ...], rng: np.random.Generator
) -> np.ndarray:
    """All of `every` if there is room, and some if not; `first` of all."""
    size = int(np.prod(shape))
    if len(every) <= size:
        return rng.permutation(np.resize(every, size)).reshape(shape)
    taken = np.concatenate([np.asarray(first)[:size], rng.choice(every, max(size - len(first), 0))])
    return taken.reshape(shape)
