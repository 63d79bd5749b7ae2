"""Weights as expressions over byte ranges, read a region at a time."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, fields, replace
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir

from graphopt.ir._bytes import Array, Region, byte_count, full_region, payload, read_box

__all__ = [
    "Affine",
    "Cast",
    "Concatenated",
    "Expr",
    "FileRange",
    "InMemory",
    "Reshaped",
    "Scaled",
    "Sliced",
    "Transposed",
    "Unbound",
    "expression_type",
    "read_clock",
    "read_since",
]

_PANEL = 1 << 20
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
        return self.source.read(region).astype(self.dtype.numpy(), copy=False)


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
        # Panels that fit the cache: a whole transposed copy would miss it at every element.
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
