"""Weights as expressions over byte ranges, read a region at a time."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx_ir as ir

__all__ = [
    "Affine", "Cast", "Concatenated", "Expr", "FileRange", "InMemory", "LazyTensor", "Reshaped", "Sliced",
    "Transposed", "Unbound", "has_data", "lazy", "same_content", "tiles",
]  # fmt: skip

Region = tuple[slice, ...]


class Expr:
    """A tensor that is described, not held. `read(region)` gives the elements of a box of it.

    `shape` and `dtype` are those of the result; `identity` is hashable, and equal identities mean equal content.
    """

    shape: tuple[int, ...]
    dtype: ir.DataType

    @property
    def identity(self) -> tuple[Any, ...]:
        raise NotImplementedError

    def read(self, region: Region | None = None) -> np.ndarray:
        """The elements of `region` (a slice with start and stop per axis; None: all), as an array."""
        raise NotImplementedError

    @property
    def nbytes(self) -> int:
        return (int(np.prod(self.shape, dtype=np.int64)) * self.dtype.bitwidth + 7) // 8


def _full(shape: Sequence[int]) -> Region:
    return tuple(slice(0, n) for n in shape)


def _bf16_to_f32(array: np.ndarray) -> np.ndarray:
    wide = array.view(np.uint16).astype(np.uint32)
    wide <<= 16
    return wide.view(np.float32)


@dataclass(frozen=True, eq=False)
class FileRange(Expr):
    """`length` bytes at `offset` of a file, little-endian, row-major; read by position, never mapped."""

    path: Path
    offset: int
    length: int
    dtype: ir.DataType
    shape: tuple[int, ...]

    @property
    def identity(self) -> tuple[Any, ...]:
        return ("file", str(self.path), self.offset, self.length, self.dtype, self.shape)

    def read(self, region: Region | None = None) -> np.ndarray:
        kind = self.dtype.numpy()
        if not self.shape:
            return self._bytes(0, self.length).view(kind).reshape(())
        rows = (region or _full(self.shape))[0]
        row = self.length // self.shape[0] if self.shape[0] else 0
        block = self._bytes(rows.start * row, (rows.stop - rows.start) * row).view(kind)
        block = block.reshape(rows.stop - rows.start, *self.shape[1:])
        return block if region is None else block[(slice(None), *region[1:])]

    def _bytes(self, start: int, count: int) -> np.ndarray:
        buffer = np.empty(count, np.uint8)
        view = memoryview(buffer)
        with self.path.open("rb", buffering=0) as file:
            done = 0
            while done < count:
                got = os.preadv(file.fileno(), [view[done:]], self.offset + start + done)
                if not got:
                    raise OSError(f"{self.path}: ends before byte {self.offset + start + count}")
                done += got
        return buffer


@dataclass(frozen=True, eq=False)
class InMemory(Expr):
    """An array that is held."""

    array: np.ndarray
    kind: ir.DataType | None = None

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        return self.array.shape

    @property
    def dtype(self) -> ir.DataType:  # type: ignore[override]
        return self.kind or ir.DataType.from_numpy(self.array.dtype)

    @cached_property
    def identity(self) -> tuple[Any, ...]:  # type: ignore[override]
        digest = hashlib.sha256(np.ascontiguousarray(self.array).view(np.uint8).data if self.array.size else b"")
        return ("bytes", digest.hexdigest(), self.dtype, self.shape)

    def read(self, region: Region | None = None) -> np.ndarray:
        return self.array if region is None else self.array[region]


@dataclass(frozen=True, eq=False)
class Unbound(Expr):
    """A weight without data: a parameter traced on the meta device and not bound to a checkpoint yet."""

    name: str
    dtype: ir.DataType
    shape: tuple[int, ...]

    @property
    def identity(self) -> tuple[Any, ...]:
        return ("unbound", self.name)

    def read(self, region: Region | None = None) -> np.ndarray:
        raise ValueError(f"weight {self.name!r} has no data")


@dataclass(frozen=True, eq=False)
class Cast(Expr):
    """`source` in another dtype."""

    source: Expr
    dtype: ir.DataType

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        return self.source.shape

    @property
    def identity(self) -> tuple[Any, ...]:
        return ("cast", self.source.identity, self.dtype)

    def read(self, region: Region | None = None) -> np.ndarray:
        array = self.source.read(region)
        if array.dtype == ml_dtypes.bfloat16 and self.dtype == ir.DataType.FLOAT:
            return _bf16_to_f32(np.ascontiguousarray(array))
        return array.astype(self.dtype.numpy())


@dataclass(frozen=True, eq=False)
class Transposed(Expr):
    """`source` with its axes permuted, as numpy's transpose does."""

    source: Expr
    perm: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        return tuple(self.source.shape[p] for p in self.perm)

    @property
    def dtype(self) -> ir.DataType:  # type: ignore[override]
        return self.source.dtype

    @property
    def identity(self) -> tuple[Any, ...]:
        return ("transposed", self.source.identity, self.perm)

    def read(self, region: Region | None = None) -> np.ndarray:
        if region is not None:
            inner = list(region)
            for axis, p in enumerate(self.perm):
                inner[p] = region[axis]
            region = tuple(inner)
        return np.ascontiguousarray(self.source.read(region).transpose(self.perm))


@dataclass(frozen=True, eq=False)
class Reshaped(Expr):
    """`source` with another shape of as many elements."""

    source: Expr
    shape: tuple[int, ...]

    @property
    def dtype(self) -> ir.DataType:  # type: ignore[override]
        return self.source.dtype

    @property
    def identity(self) -> tuple[Any, ...]:
        return ("reshaped", self.source.identity, self.shape)

    def read(self, region: Region | None = None) -> np.ndarray:
        array = self.source.read().reshape(self.shape)
        return array if region is None else array[region]


@dataclass(frozen=True, eq=False)
class Sliced(Expr):
    """Elements start..stop of `source` along `axis`."""

    source: Expr
    axis: int
    start: int
    stop: int

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        return (*self.source.shape[: self.axis], self.stop - self.start, *self.source.shape[self.axis + 1 :])

    @property
    def dtype(self) -> ir.DataType:  # type: ignore[override]
        return self.source.dtype

    @property
    def identity(self) -> tuple[Any, ...]:
        return ("sliced", self.source.identity, self.axis, self.start, self.stop)

    def read(self, region: Region | None = None) -> np.ndarray:
        inner = list(region or _full(self.shape))
        inner[self.axis] = slice(inner[self.axis].start + self.start, inner[self.axis].stop + self.start)
        return self.source.read(tuple(inner))


@dataclass(frozen=True, eq=False)
class Concatenated(Expr):
    """`sources` one after another along `axis`."""

    sources: tuple[Expr, ...]
    axis: int

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        first = self.sources[0].shape
        return (*first[: self.axis], sum(s.shape[self.axis] for s in self.sources), *first[self.axis + 1 :])

    @property
    def dtype(self) -> ir.DataType:  # type: ignore[override]
        return self.sources[0].dtype

    @property
    def identity(self) -> tuple[Any, ...]:
        return ("concatenated", tuple(s.identity for s in self.sources), self.axis)

    def read(self, region: Region | None = None) -> np.ndarray:
        wanted = region or _full(self.shape)
        start, stop = wanted[self.axis].start, wanted[self.axis].stop
        parts, base = [], 0
        for source in self.sources:
            size = source.shape[self.axis]
            low, high = max(start - base, 0), min(stop - base, size)
            if low < high:
                parts.append(source.read((*wanted[: self.axis], slice(low, high), *wanted[self.axis + 1 :])))
            base += size
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=self.axis)


@dataclass(frozen=True, eq=False)
class Affine(Expr):
    """`source * scale + offset`, elementwise, in the source's dtype."""

    source: Expr
    scale: float
    offset: float

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        return self.source.shape

    @property
    def dtype(self) -> ir.DataType:  # type: ignore[override]
        return self.source.dtype

    @property
    def identity(self) -> tuple[Any, ...]:
        return ("affine", self.source.identity, self.scale, self.offset)

    def read(self, region: Region | None = None) -> np.ndarray:
        array = self.source.read(region)
        return array * array.dtype.type(self.scale) + array.dtype.type(self.offset)


def tiles(expr: Expr, max_bytes: int = 32 << 20) -> Iterator[tuple[slice, np.ndarray]]:
    """`expr` in blocks of whole rows (slices of axis 0) of about `max_bytes` each."""
    if not expr.shape or expr.nbytes <= max_bytes:
        yield slice(0, expr.shape[0] if expr.shape else 1), expr.read()
        return
    rows = max(1, max_bytes * expr.shape[0] // max(expr.nbytes, 1))
    for start in range(0, expr.shape[0], rows):
        part = slice(start, min(start + rows, expr.shape[0]))
        yield part, expr.read((part, *_full(expr.shape[1:])))


@dataclass(eq=False)
class LazyTensor(ir.TensorProtocol):  # type: ignore[misc]
    """An expression where onnx_ir wants a tensor."""

    expr: Expr
    name: str | None = None
    doc_string: str | None = None
    meta: dict[str, Any] = field(default_factory=dict)
    metadata_props: dict[str, str] = field(default_factory=dict)

    @property
    def shape(self) -> ir.Shape:
        return ir.Shape(self.expr.shape)

    @property
    def dtype(self) -> ir.DataType:
        return self.expr.dtype

    @property
    def size(self) -> int:
        return int(np.prod(self.expr.shape, dtype=np.int64))

    @property
    def nbytes(self) -> int:
        return self.expr.nbytes

    @property
    def raw(self) -> Expr:
        return self.expr

    @property
    def identity(self) -> tuple[Any, ...]:
        return self.expr.identity

    def numpy(self) -> np.ndarray:
        return self.expr.read()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self.numpy() if dtype is None else self.numpy().astype(dtype)

    def tobytes(self) -> bytes:
        return np.ascontiguousarray(self.numpy()).tobytes()

    def __repr__(self) -> str:
        return f"LazyTensor<{self.dtype},{list(self.expr.shape)}>"


def lazy(tensor: ir.TensorProtocol) -> Expr:
    """The expression behind a tensor; one that holds an array is wrapped."""
    if isinstance(tensor, LazyTensor):
        return tensor.expr
    if isinstance(tensor, ir.ExternalTensor):
        return FileRange(
            Path(tensor.path), tensor.offset or 0, tensor.length or tensor.nbytes, tensor.dtype, tuple(tensor.shape.numpy())
        )
    return InMemory(tensor.numpy(), tensor.dtype)


def _sources(expr: Expr) -> Iterator[Expr]:
    inner = getattr(expr, "sources", None) or ([expr.source] if hasattr(expr, "source") else [])
    if not inner:
        yield expr
    for child in inner:
        yield from _sources(child)


def has_data(tensor: ir.TensorProtocol) -> bool:
    """Whether the tensor's elements can be read."""
    return not isinstance(tensor, LazyTensor) or not any(isinstance(e, Unbound) for e in _sources(tensor.expr))


def same_content(a: ir.TensorProtocol, b: ir.TensorProtocol) -> bool:
    """Whether two tensors of one dtype and shape hold equal bytes; compared by identity, then by tiles."""
    x, y = lazy(a), lazy(b)
    if x is y or x.identity == y.identity:
        return True
    pairs = zip(tiles(x, 1 << 20), tiles(y, 1 << 20), strict=True)
    return all(
        np.array_equal(np.ascontiguousarray(p).reshape(-1).view(np.uint8), np.ascontiguousarray(q).reshape(-1).view(np.uint8))
        for (_, p), (_, q) in pairs
    )
