"""Weights as expressions over byte ranges, read a region at a time: what an expression is, and its leaves."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir

from graphopt.ir._bytes import Array, Region, byte_count, payload, read_box

__all__ = [
    "Expr",
    "FileRange",
    "InMemory",
    "Unbound",
    "expression_type",
    "read_clock",
    "read_since",
]

_OPS: dict[str, type[Expr]] = {}
_clock = itertools.count(1)
_last_read: dict[Hashable, int] = {}


def read_clock() -> int:
    """A point in time, for `read_since`."""
    return next(_clock)


def read_since(stored: FileRange, time: int) -> bool:
    """Whether any of a stored weight was read after `time`: whether something may depend on what it holds."""
    return _last_read.get(stored.identity, 0) > time


class Expr:
    """A tensor that is described, not held. Subclasses are frozen dataclasses (`eq=False`) with an `op`.

    Fields are expressions, plain values (numbers, text, `ir.DataType`), and tuples of these; an array becomes
    a field as an `InMemory`. `shape` and `dtype` are those of the result: `__post_init__` sets them with
    `describe`. `read(region)` gives the elements of a box of it as an array of `dtype.numpy()` (ml_dtypes for
    bfloat16 and the small types, one element a byte or more), which may be read-only; a region is one slice
    for each axis, with start and stop and no step. What is read may depend on nothing but the fields. The
    cache stores the `op` and the fields, and finds the subclass by its `op`, a plugin's where that was
    imported. Raises `TypeError` where a second subclass takes the `op` of another.
    """

    op: ClassVar[str]
    shape: tuple[int, ...]
    dtype: ir.DataType

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "op" not in vars(cls):
            return
        known = _OPS.setdefault(cls.op, cls)
        if (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
            raise TypeError(f"there is an expression of op {cls.op!r} already, in {known.__module__}")
        _OPS[cls.op] = cls

    @cached_property
    def identity(self) -> tuple[Hashable, ...]:
        """Equal identities mean equal content; different ones mean nothing."""
        return self._identity()

    @property
    def nbytes(self) -> int:
        """Bytes that ONNX stores for it."""
        return byte_count(self.shape, self.dtype)

    @property
    def sources(self) -> tuple[Expr, ...]:
        """The expressions it is made from, in the order of its fields."""
        return tuple(source for value in self._values() for source in _expressions(value))

    def leaves(self) -> Iterator[Expr]:
        """The expressions at the bottom, left to right."""
        if not self.sources:
            yield self
        for source in self.sources:
            yield from source.leaves()

    def mapped(self, change: Callable[[Expr], Any]) -> tuple[Any, ...]:
        """The fields in order, each expression in them replaced by what `change` makes of it."""
        return tuple(_mapped(value, change) for value in self._values())

    def over(self, change: Callable[[Expr], Expr]) -> Expr:
        """The same operation over changed sources; itself where `change` leaves each as it is."""
        old, new = self._values(), self.mapped(change)
        if all(a is b for a, b in zip(old, new, strict=True)):
            return self
        names = (field.name for field in fields(self))  # type: ignore[arg-type]
        return replace(self, **dict(zip(names, new, strict=True)))  # type: ignore[type-var]

    def describe(self, shape: tuple[int, ...], dtype: ir.DataType) -> None:
        """Set `shape` and `dtype`: for the `__post_init__` of subclasses, which are frozen."""
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "dtype", dtype)

    def read(self, region: Region | None = None) -> Array:
        """The elements of `region`; None is all of them."""
        raise NotImplementedError

    def _identity(self) -> tuple[Hashable, ...]:
        return (self.op, *self.mapped(lambda source: source.identity))

    def _values(self) -> list[Any]:
        names = (field.name for field in fields(self))  # type: ignore[arg-type]
        return [getattr(self, name) for name in names]


def expression_type(op: object) -> type[Expr] | None:
    """The subclass of this `op`, if one was imported so far."""
    return _OPS.get(op) if isinstance(op, str) else None


def _expressions(value: object) -> Iterator[Expr]:
    if isinstance(value, Expr):
        yield value
    elif isinstance(value, tuple):
        for part in value:
            yield from _expressions(part)


def _mapped(value: Any, change: Callable[[Expr], Any]) -> Any:
    if isinstance(value, Expr):
        return change(value)
    if not isinstance(value, tuple):
        return value
    parts = tuple(_mapped(part, change) for part in value)
    return value if all(a is b for a, b in zip(parts, value, strict=True)) else parts


@dataclass(frozen=True, eq=False)
class FileRange(Expr):
    """`length` bytes at `offset` of a file: little-endian, row-major, 2- and 4-bit types packed.

    `stamp` tells states of the file apart (its time of modification, in ns) where it may change between runs.
    """

    op: ClassVar[str] = "file"
    path: Path
    offset: int
    length: int
    dtype: ir.DataType
    shape: tuple[int, ...]
    stamp: int = 0

    def __post_init__(self) -> None:
        if min(self.shape, default=0) < 0 or self.offset < 0 or self.length != self.nbytes:
            what = f"{self.dtype} {list(self.shape)}"
            raise ValueError(f"{self.length} bytes at {self.offset} of {self.path} cannot hold {what}")

    def _identity(self) -> tuple[Hashable, ...]:
        return ("file", str(self.path), self.stamp, self.offset, self.length, self.dtype, self.shape)

    def read(self, region: Region | None = None) -> Array:
        _last_read[self.identity] = next(_clock)
        return read_box(self.path, self.offset, self.shape, self.dtype, region)


@dataclass(frozen=True, eq=False)
class InMemory(Expr):
    """An array that is held. `kind` is needed where numpy's dtype does not tell (raw bits, strings)."""

    op: ClassVar[str] = "held"
    array: Array
    kind: ir.DataType | None = None

    def __post_init__(self) -> None:
        dtype = self.kind or ir.DataType.from_numpy(self.array.dtype)
        held = np.asarray(self.array, object if dtype == ir.DataType.STRING else None).view()
        held = held if held.dtype == dtype.numpy() else held.view(dtype.numpy())
        held.flags.writeable = False
        object.__setattr__(self, "array", held)
        self.describe(held.shape, dtype)

    def _identity(self) -> tuple[Hashable, ...]:
        is_text = self.dtype == ir.DataType.STRING
        held = repr(self.array.tolist()).encode() if is_text else payload(self.array, self.dtype).data
        return ("bytes", hashlib.sha256(held).hexdigest(), self.dtype, self.shape)

    def read(self, region: Region | None = None) -> Array:
        return self.array if region is None else self.array[region]


@dataclass(frozen=True, eq=False)
class Unbound(Expr):
    """A weight without data: a parameter traced on the meta device and not bound to a checkpoint yet."""

    op: ClassVar[str] = "unbound"
    name: str
    dtype: ir.DataType
    shape: tuple[int, ...]

    def read(self, region: Region | None = None) -> Array:
        raise ValueError(f"weight {self.name!r} has no data")
