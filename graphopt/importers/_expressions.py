"""Small integers packed into bytes and taken out of them, lazily."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from graphopt.ir import Expr, Region, full_region

__all__ = ["Divided", "Integers", "Packed", "Repeated"]


@dataclass(frozen=True, eq=False)
class Integers(Expr):
    """The integers of `bits` in bytes [..., bytes], the first in the lowest bits: uint8 [..., integers].

    With `order`, integer i of each `len(order)` is the one at `order[i]`. With `table`, each is looked up.
    """

    op: ClassVar[str] = "importers.integers"
    source: Expr
    bits: int
    order: tuple[int, ...] = ()
    table: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        *outer, count = self.source.shape
        self.describe((*outer, count * 8 // self.bits), ir.DataType.UINT8)

    def read(self, region: Region | None = None) -> np.ndarray:
        *outer, inner = full_region(self.shape) if region is None else region
        together = max(8 // self.bits, len(self.order))
        first, last = inner.start // together, -(-inner.stop // together)
        held = slice(first * together * self.bits // 8, max(first, last) * together * self.bits // 8)
        data = self.source.read((*outer, held))
        mask = (1 << self.bits) - 1
        parts = [data >> shift & mask for shift in range(0, 8, self.bits)]
        values = np.stack(parts, axis=-1).reshape(*data.shape[:-1], data.shape[-1] * len(parts))
        if self.order:
            grouped = values.reshape(*values.shape[:-1], values.shape[-1] // together, together)
            values = grouped[..., list(self.order)].reshape(values.shape)
        if self.table:
            values = np.array(self.table, np.uint8)[values]
        start = first * together
        return values[..., inner.start - start : inner.stop - start]


@dataclass(frozen=True, eq=False)
class Packed(Expr):
    """Integers uint8 [..., n] of `bits` in bytes [..., ceil(n * bits / 8)], the first in the lowest bits."""

    op: ClassVar[str] = "importers.packed"
    source: Expr
    bits: int

    def __post_init__(self) -> None:
        *outer, count = self.source.shape
        self.describe((*outer, -(-count * self.bits // 8)), ir.DataType.UINT8)

    def read(self, region: Region | None = None) -> np.ndarray:
        *outer, inner = full_region(self.shape) if region is None else region
        per, count = 8 // self.bits, self.source.shape[-1]
        held = slice(min(inner.start * per, count), min(inner.stop * per, count))
        values = self.source.read((*outer, held))
        missing = (inner.stop - inner.start) * per - values.shape[-1]
        if missing:
            values = np.pad(values, (*((0, 0) for _ in outer), (0, missing)))
        data = np.zeros((*values.shape[:-1], inner.stop - inner.start), np.uint8)
        for place in range(per):
            data |= values[..., place::per] << place * self.bits
        return data


@dataclass(frozen=True, eq=False)
class Repeated(Expr):
    """`source` with each index of `axis` `times` times, cut to `size`, as numpy's repeat does."""

    op: ClassVar[str] = "importers.repeated"
    source: Expr
    axis: int
    times: int
    size: int

    def __post_init__(self) -> None:
        shape = self.source.shape
        if not self.size <= shape[self.axis] * self.times:
            raise ValueError(f"{shape[self.axis]} indices {self.times} times are not {self.size}")
        self.describe((*shape[: self.axis], self.size, *shape[self.axis + 1 :]), self.source.dtype)

    def read(self, region: Region | None = None) -> np.ndarray:
        inner = list(full_region(self.shape) if region is None else region)
        wanted = inner[self.axis]
        first, last = wanted.start // self.times, -(-wanted.stop // self.times)
        inner[self.axis] = slice(first, max(first, last))
        places = np.arange(wanted.start, wanted.stop) // self.times - first
        return np.asarray(np.take(self.source.read(tuple(inner)), places, axis=self.axis))


@dataclass(frozen=True, eq=False)
class Divided(Expr):
    """float32 `source` divided by a number."""

    op: ClassVar[str] = "importers.divided"
    source: Expr
    by: float

    def __post_init__(self) -> None:
        self.describe(self.source.shape, ir.DataType.FLOAT)

    def read(self, region: Region | None = None) -> np.ndarray:
        return np.asarray(self.source.read(region) / np.float32(self.by))
