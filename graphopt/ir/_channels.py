"""Weights whose channels are turned or put in another order."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod, sqrt
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from graphopt.ir._bytes import Array, Region, full_region
from graphopt.ir._expression import Expr

__all__ = ["Rotated", "Taken"]

_TURNED = (ir.DataType.FLOAT, ir.DataType.DOUBLE)


@dataclass(frozen=True, eq=False)
class Rotated(Expr):
    """`source`, each run of n along `axis` (a row vector x) turned to x R, or to x R^T where it is `inverse`.

    R is n by n and orthogonal: diag(`signs`) (H / sqrt(n / m) ⊗ `core`) with H Sylvester's Hadamard matrix of
    n / m, a power of two, `core` [m, m] orthogonal, `signs` [n] of 1 and -1. Sums are in one order, whatever
    is read: a region holds the same bits as the whole.
    """

    op: ClassVar[str] = "rotated"
    source: Expr
    signs: Expr
    core: Expr
    axis: int
    inverse: bool = False

    def __post_init__(self) -> None:
        shape, dtype = self.source.shape, self.source.dtype
        (size,), (width, _) = self.signs.shape, self.core.shape
        times, rest = divmod(size, width)
        if not 0 <= self.axis < len(shape) or shape[self.axis] % size:
            raise ValueError(f"runs of {size} along axis {self.axis} of {list(shape)}")
        if rest or times.bit_count() != 1:
            raise ValueError(f"{size} is not {width} times a power of two")
        if dtype not in _TURNED or {self.signs.dtype, self.core.dtype} != {dtype}:
            raise ValueError(f"{dtype} turned by {self.signs.dtype} and {self.core.dtype}")
        self.describe(shape, dtype)

    def read(self, region: Region | None = None) -> Array:
        region = full_region(self.shape) if region is None else region
        size = self.signs.shape[0]
        wanted = region[self.axis]
        first, last = wanted.start // size, -(-wanted.stop // size)
        inner = (*region[: self.axis], slice(first * size, last * size), *region[self.axis + 1 :])
        turned = self._turned(self.source.read(inner))
        kept = slice(wanted.start - first * size, wanted.stop - first * size)
        return turned[(*(slice(None) for _ in region[: self.axis]), kept)]

    def _turned(self, array: Array) -> Array:
        signs, core = self.signs.read(), self.core.read()
        width = len(core)
        times = len(signs) // width
        before, after = prod(array.shape[: self.axis]), prod(array.shape[self.axis + 1 :])
        work = np.array(array, order="C").reshape(before, -1, times, width, after)
        factors = signs.reshape(times, width, 1)
        if not self.inverse:
            work *= factors
        _add_and_subtract(work)
        if width > 1:
            work = _by_core(work, core.T if self.inverse else core)
        work *= work.dtype.type(1 / sqrt(times))
        if self.inverse:
            work *= factors
        return work.reshape(array.shape)


def _add_and_subtract(work: Array) -> None:
    """Multiply axis 2 of `work`, in place, by the Hadamard matrix of its length."""
    outer, runs, times, width, after = work.shape
    half = 1
    while half < times:
        pairs = work.reshape(outer, runs, times // (2 * half), 2, half, width, after)
        one, other = pairs[:, :, :, 0], pairs[:, :, :, 1]
        difference = one - other
        one += other
        other[...] = difference
        half *= 2


def _by_core(work: Array, core: Array) -> Array:
    """Each row vector along axis 3 of `work` times `core`."""
    total = np.zeros_like(work)
    for index, row in enumerate(core):
        total += work[..., index : index + 1, :] * row[:, None]
    return total


@dataclass(frozen=True, eq=False)
class Taken(Expr):
    """The elements of `source` at `places` along `axis`, in that order; `places` is int64 [n]."""

    op: ClassVar[str] = "taken"
    source: Expr
    places: Expr
    axis: int

    def __post_init__(self) -> None:
        shape = self.source.shape
        if not 0 <= self.axis < len(shape) or len(self.places.shape) != 1:
            raise ValueError(f"places {list(self.places.shape)} along axis {self.axis} of {list(shape)}")
        if self.places.dtype != ir.DataType.INT64:
            raise ValueError(f"places of {self.places.dtype}")
        self.describe((*shape[: self.axis], *self.places.shape, *shape[self.axis + 1 :]), self.source.dtype)

    def read(self, region: Region | None = None) -> Array:
        region = full_region(self.shape) if region is None else region
        places = self.places.read()[region[self.axis]]
        everything = slice(0, self.source.shape[self.axis])
        source = self.source.read((*region[: self.axis], everything, *region[self.axis + 1 :]))
        return np.take(source, places, self.axis)
