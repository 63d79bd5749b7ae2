"""Lazy expressions where onnx_ir wants tensors, and reading them in tiles."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from itertools import product
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import onnx_ir as ir

from graphopt.ir._bytes import Array, Region, full_region, payload
from graphopt.ir._channels import Rotated, Taken
from graphopt.ir._expression import Expr, FileRange, InMemory, Unbound
from graphopt.ir._operations import Transposed
from graphopt.ir._simplify import simplified

__all__ = [
    "LazyTensor",
    "boxes",
    "digest",
    "has_data",
    "lazy",
    "same_content",
    "stored_bytes",
    "tile_regions",
    "tiles",
]

_EXPR = "graphopt.expr"
_TILE = 4 << 20
"""Bytes of a tile. A small one stays in the cache and reuses the same memory: five times faster than 32
MiB."""
_TILE_ACROSS = 32 << 20
"""The same where each tile touches all rows and few are wanted: across a transposed file, say."""
_COMPARED = 1 << 20
"""Bytes that are compared at a time: where two weights differ, they mostly do in their first elements."""


@dataclass(eq=False)
class LazyTensor(ir.TensorProtocol):
    """An expression as the `const_value` of a value. The expression is kept in its simplified form.

    Several values may hold one LazyTensor; its `name` is then that of the value serialized last.
    """

    expr: Expr
    name: str | None = None
    doc_string: str | None = None
    meta: dict[str, Any] = field(default_factory=dict)
    metadata_props: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.expr = simplified(self.expr)

    @property
    def shape(self) -> ir.Shape:  # type: ignore[override]
        return ir.Shape(self.expr.shape)

    @property
    def dtype(self) -> ir.DataType:  # type: ignore[override]
        return self.expr.dtype

    @property
    def size(self) -> int:
        return prod(self.expr.shape)

    @property
    def nbytes(self) -> int:
        return self.expr.nbytes

    @property
    def raw(self) -> Expr:
        return self.expr

    @property
    def identity(self) -> tuple[Hashable, ...]:
        """That of the expression: equal identities mean equal content."""
        return self.expr.identity

    def numpy(self) -> Array:
        return self.expr.read()

    def tobytes(self) -> bytes:
        return payload(self.numpy(), self.dtype).tobytes()

    def tofile(self, file: BinaryIO) -> None:
        """Write what `tobytes` returns, a tile at a time."""
        for box in boxes(self.expr):
            file.write(payload(self.expr.read(box), self.dtype).data)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.asarray(self.numpy(), dtype, copy=copy)

    def __dlpack__(self, *, stream: Any = None) -> Any:
        return self.numpy().__dlpack__(stream=stream)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.numpy().__dlpack_device__()

    def __repr__(self) -> str:
        return f"LazyTensor<{self.dtype},{list(self.expr.shape)}>"


def lazy(tensor: ir.TensorProtocol) -> Expr:
    """The expression behind a tensor; a tensor that holds its elements gets one, once."""
    if isinstance(tensor, LazyTensor):
        return tensor.expr
    if isinstance(tensor, ir.ExternalTensor):
        shape, length = tuple(tensor.shape.numpy()), tensor.length or tensor.nbytes
        return FileRange(Path(tensor.path), tensor.offset or 0, length, tensor.dtype, shape)
    expr = tensor.meta.get(_EXPR)
    if not isinstance(expr, InMemory):
        expr = tensor.meta[_EXPR] = InMemory(np.asarray(tensor.numpy()), tensor.dtype)
    return expr


def has_data(tensor: ir.TensorProtocol) -> bool:
    """Whether the tensor's elements can be read: false where it is made from a weight that is not bound."""
    return not isinstance(tensor, LazyTensor) or not any(isinstance(e, Unbound) for e in tensor.expr.leaves())


def tiles(expr: Expr, max_bytes: int | None = None) -> Iterator[tuple[slice, Array]]:
    """`expr` as (slice of axis 0, elements of these rows), in blocks of about `max_bytes`, at least a row.

    Without `max_bytes`, what is fastest: 4 MiB, or 32 MiB across a transposed file. A scalar is one block,
    its slice 0..1. Where rows may be huge (a leading axis of one), reshape first.
    """
    expr = simplified(expr)
    if not expr.shape:
        yield slice(0, 1), expr.read()
        return
    for region in tile_regions(expr, max_bytes):
        yield region[0], expr.read(region)


def tile_regions(expr: Expr, max_bytes: int | None = None) -> Iterator[Region]:
    """The regions of the blocks that `tiles` reads, of an expression that is simplified and no scalar."""
    for rows in _steps(expr.shape[0], expr.nbytes, max_bytes or _tile(expr), expr.dtype):
        yield (rows, *full_region(expr.shape[1:]))


def boxes(expr: Expr, max_bytes: int | None = None) -> Iterator[Region]:
    """Regions of about `max_bytes` that cover `expr` in row-major order, each a whole number of bytes."""
    shape, nbytes = expr.shape, expr.nbytes
    max_bytes = max_bytes or _tile(expr)
    if not prod(shape) or not shape:
        yield full_region(shape)
        return
    axis = 0
    while axis < len(shape) - 1 and nbytes > max_bytes * prod(shape[: axis + 1]) and expr.dtype.bitwidth >= 8:
        axis += 1
    for index in product(*(range(size) for size in shape[:axis])):
        for part in _steps(shape[axis], nbytes // prod(shape[:axis]), max_bytes, expr.dtype):
            yield (*(slice(i, i + 1) for i in index), part, *full_region(shape[axis + 1 :]))


def _tile(expr: Expr) -> int:
    across = isinstance(expr, Transposed) and expr.perm[0] != 0
    across = across or (isinstance(expr, (Rotated, Taken)) and expr.axis == 0)
    return _TILE_ACROSS if across else max((_tile(source) for source in expr.sources), default=_TILE)


def _steps(count: int, nbytes: int, max_bytes: int, dtype: ir.DataType) -> Iterator[slice]:
    step = max(1, max_bytes * count // max(nbytes, 1))
    if dtype.bitwidth < 8:
        step = max(4, step - step % 4)  # four rows of packed elements end on a byte, whatever their length
    for start in range(0, max(count, 1), step):
        yield slice(start, min(start + step, count))


def digest(expr: Expr) -> str:
    """SHA-256 over dtype, shape and content, read in tiles: the same wherever the weight is stored."""
    total = hashlib.sha256(f"{expr.dtype.name}{list(expr.shape)}".encode())
    expr = simplified(expr)
    for box in boxes(expr):
        total.update(payload(expr.read(box), expr.dtype).data)
    return total.hexdigest()


def stored_bytes(tensor: ir.TensorProtocol) -> int:
    """Bytes of a tensor's elements; for text, of its characters."""
    if tensor.dtype == ir.DataType.STRING:
        return sum(map(len, tensor.numpy().reshape(-1).tolist()))
    return tensor.nbytes


def same_content(a: ir.TensorProtocol, b: ir.TensorProtocol) -> bool:
    """Whether two tensors agree in dtype, shape and every bit: by identity if it decides, else by reading."""
    x, y = lazy(a), lazy(b)
    if x.dtype != y.dtype or x.shape != y.shape:
        return False
    if x.identity == y.identity:
        return True
    if x.dtype == ir.DataType.STRING or (isinstance(x, InMemory) and isinstance(y, InMemory)):
        return False
    return all(
        np.array_equal(payload(x.read(box), x.dtype), payload(y.read(box), y.dtype))
        for box in boxes(x, _COMPARED)
    )
