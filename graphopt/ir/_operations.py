"""What is made of weights without holding them: casts, products, and other arrangements of elements."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from graphopt.ir._bytes import Array, Region, full_region
from graphopt.ir._expression import Expr

__all__ = ["Affine", "Cast", "Concatenated", "Reshaped", "Scaled", "Sliced", "Transposed"]

_PANEL = 1 << 20
"""Bytes that are transposed at a time. They have to stay in a core's own cache, or every element misses it;
smaller ones would read a file in more pieces. A judgement between the two."""


@dataclass(frozen=True, eq=False)
class _Unary(Expr):
    source: Expr


@dataclass(frozen=True, eq=False)
class Cast(_Unary):
    """`source` in another dtype, rounded to nearest even; out of range as numpy and ml_dtypes have it."""

    op: ClassVar[str] = "cast"
    dtype: ir.DataType

    def __post_init__(self) -> None:
        self.describe(self.source.shape, self.dtype)

    def read(self, region: Region | None = None) -> Array:
        array = self.source.read(region)
        if (self.source.dtype, self.dtype) == (ir.DataType.BFLOAT16, ir.DataType.FLOAT):
            return _widened(array)
        return array.astype(self.dtype.numpy(), copy=False)


def _widened(array: Array) -> Array:
    """bfloat16 as float32, which begins with the same bits: five times as fast as ml_dtypes's cast."""
    bits = array.view(np.uint16).astype(np.uint32)
    bits <<= 16
    return bits.view(np.float32)


@dataclass(frozen=True, eq=False)
class Affine(_Unary):
    """`source * scale + offset`, elementwise, each step rounded to the source's (floating) dtype."""

    op: ClassVar[str] = "affine"
    scale: float
    offset: float

    def __post_init__(self) -> None:
        if not self.source.dtype.is_floating_point():
            raise ValueError(f"an affine map of {self.source.dtype}")
        self.describe(self.source.shape, self.source.dtype)

    def read(self, region: Region | None = None) -> Array:
        array = self.source.read(region)
        kind = self.dtype.numpy().type
        if self.scale != 1:
            array = array * kind(self.scale)
        return np.asarray(array if self.offset == 0 else array + kind(self.offset))


@dataclass(frozen=True, eq=False)
class Scaled(_Unary):
    """`source` times a vector, entry i of which is for index i of `axis`: a factor for each channel.

    `factors` is [source.shape[axis]], of the source's floating dtype, to which products are rounded.
    """

    op: ClassVar[str] = "scaled"
    factors: Expr
    axis: int

    def __post_init__(self) -> None:
        shape, dtype = self.source.shape, self.source.dtype
        if not 0 <= self.axis < len(shape) or self.factors.shape != (shape[self.axis],):
            raise ValueError(f"factors {list(self.factors.shape)} along axis {self.axis} of {list(shape)}")
        if not dtype.is_floating_point() or self.factors.dtype != dtype:
            raise ValueError(f"factors of {self.factors.dtype} for {dtype}")
        self.describe(shape, dtype)

    def read(self, region: Region | None = None) -> Array:
        chosen = slice(None) if region is None else region[self.axis]
        wide = (-1, *(1 for _ in self.shape[self.axis + 1 :]))
        return np.asarray(self.source.read(region) * self.factors.read()[chosen].reshape(wide))


@dataclass(frozen=True, eq=False)
class Transposed(_Unary):
    """`source` with its axes permuted, as numpy's transpose does."""

    op: ClassVar[str] = "transposed"
    perm: tuple[int, ...]

    def __post_init__(self) -> None:
        if sorted(self.perm) != list(range(len(self.source.shape))):
            raise ValueError(f"{self.perm} is no permutation of the axes of {list(self.source.shape)}")
        self.describe(tuple(self.source.shape[p] for p in self.perm), self.source.dtype)

    def read(self, region: Region | None = None) -> Array:
        if not self.perm:
            return self.source.read()
        region = full_region(self.shape) if region is None else region
        inner = list(region)
        for axis, p in enumerate(self.perm):
            inner[p] = region[axis]
        out = np.empty(tuple(s.stop - s.start for s in region), self.dtype.numpy())
        target = out.transpose(np.argsort(self.perm))
        first = inner[0]
        step = max(1, _PANEL // max(1, out.itemsize * prod(target.shape[1:])))
        for start in range(first.start, first.stop, step):
            rows = slice(start, min(start + step, first.stop))
            target[rows.start - first.start : rows.stop - first.start] = self.source.read((rows, *inner[1:]))
        return out


@dataclass(frozen=True, eq=False)
class Reshaped(_Unary):
    """`source` in row-major order under another shape of as many elements."""

    op: ClassVar[str] = "reshaped"
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        if prod(self.shape) != prod(self.source.shape) or min(self.shape, default=0) < 0:
            raise ValueError(f"{list(self.source.shape)} cannot become {list(self.shape)}")
        self.describe(self.shape, self.source.dtype)

    def read(self, region: Region | None = None) -> Array:
        if region is None or not self.source.shape or not prod(self.shape):
            array = self.source.read().reshape(self.shape)
            return array if region is None else array[region]
        # Rows of the source that cover the first axis which is not of length one.
        axis = next((i for i, size in enumerate(self.shape) if size != 1), 0)
        inner, outer = prod(self.shape[axis + 1 :]), prod(self.source.shape[1:])
        begin, end = region[axis].start * inner, region[axis].stop * inner
        rows = slice(begin // outer, -(-end // outer))
        held = self.source.read((rows, *full_region(self.source.shape[1:]))).reshape(-1)
        flat = held[begin - rows.start * outer : end - rows.start * outer]
        box = flat.reshape(*self.shape[:axis], -1, *self.shape[axis + 1 :])
        return box[(*region[:axis], slice(None), *region[axis + 1 :])]


@dataclass(frozen=True, eq=False)
class Sliced(_Unary):
    """Elements start..stop of `source` along `axis`."""

    op: ClassVar[str] = "sliced"
    axis: int
    start: int
    stop: int

    def __post_init__(self) -> None:
        shape = self.source.shape
        if not 0 <= self.axis < len(shape) or not 0 <= self.start <= self.stop <= shape[self.axis]:
            raise ValueError(f"{self.start}..{self.stop} of axis {self.axis} is not within {list(shape)}")
        size = self.stop - self.start
        self.describe((*shape[: self.axis], size, *shape[self.axis + 1 :]), self.source.dtype)

    def read(self, region: Region | None = None) -> Array:
        inner = list(full_region(self.shape) if region is None else region)
        inner[self.axis] = slice(inner[self.axis].start + self.start, inner[self.axis].stop + self.start)
        return self.source.read(tuple(inner))


@dataclass(frozen=True, eq=False)
class Concatenated(Expr):
    """`parts` of one dtype one after another along `axis`."""

    op: ClassVar[str] = "concatenated"
    parts: tuple[Expr, ...]
    axis: int

    def __post_init__(self) -> None:
        shapes = [part.shape for part in self.parts]
        frames = {(len(s), s[: self.axis], s[self.axis + 1 :]) for s in shapes}
        kinds = {part.dtype for part in self.parts}
        if len(frames) != 1 or len(kinds) != 1 or not 0 <= self.axis < len(shapes[0]):
            raise ValueError(f"{shapes} of {kinds} cannot be joined along axis {self.axis}")
        total = sum(shape[self.axis] for shape in shapes)
        self.describe((*shapes[0][: self.axis], total, *shapes[0][self.axis + 1 :]), self.parts[0].dtype)

    def read(self, region: Region | None = None) -> Array:
        region = full_region(self.shape) if region is None else region
        before, wanted, after = region[: self.axis], region[self.axis], region[self.axis + 1 :]
        out = np.empty(tuple(s.stop - s.start for s in region), self.dtype.numpy())
        base = 0
        for part in self.parts:
            size = part.shape[self.axis]
            low, high = max(wanted.start, base), min(wanted.stop, base + size)
            if low < high:
                place = (*(slice(None) for _ in before), slice(low - wanted.start, high - wanted.start))
                out[place] = part.read((*before, slice(low - base, high - base), *after))
            base += size
        return out
