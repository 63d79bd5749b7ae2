"""Rewriting a weight expression into the equal one that is cheapest to read."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import onnx_ir as ir

from graphopt.ir._expression import Expr, FileRange, InMemory
from graphopt.ir._operations import Affine, Cast, Concatenated, Reshaped, Sliced, Transposed

__all__ = ["simplified"]

_WIDER = {
    ir.DataType.FLOAT: {ir.DataType.FLOAT16, ir.DataType.BFLOAT16},
    ir.DataType.DOUBLE: {ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.FLOAT},
}


def simplified(expr: Expr) -> Expr:
    """An expression of equal content that reads less; `expr` itself where there is none.

    Casts and affine maps move outward and transposes out of slices and concatenations, so that what is inside
    reads whole rows of a file; pairs that cancel disappear (a transposed transpose, fp32 back to its bf16).
    """
    match expr:
        case Cast(source, dtype):
            return _cast(expr, simplified(source), dtype)
        case Affine(source, scale, offset):
            inner = simplified(source)
            return inner if (scale, offset) == (1, 0) else _same(expr, Affine(inner, scale, offset))
        case Transposed(source, perm):
            return _transposed(expr, simplified(source), perm)
        case Reshaped(source, shape):
            return _reshaped(expr, simplified(source), shape)
        case Sliced(source, axis, start, stop):
            return _sliced(expr, simplified(source), axis, start, stop)
        case Concatenated(parts, axis):
            return _concatenated(expr, tuple(simplified(part) for part in parts), axis)
        case _:
            return expr.over(simplified) if expr.sources else expr


def _same(old: Expr, new: Expr) -> Expr:
    kept = len(old.sources) == len(new.sources) and all(
        a is b for a, b in zip(old.sources, new.sources, strict=True)
    )
    return old if type(old) is type(new) and kept and old.identity == new.identity else new


def _cast(old: Expr, source: Expr, dtype: ir.DataType) -> Expr:
    if source.dtype == dtype:
        return source
    if isinstance(source, Cast) and source.source.dtype in _WIDER.get(source.dtype, ()):
        return _cast(old, source.source, dtype)
    return _same(old, Cast(source, dtype))


def _transposed(old: Expr, source: Expr, perm: tuple[int, ...]) -> Expr:
    if perm == tuple(range(len(perm))):
        return source
    match source:
        case Cast(inner, dtype):
            return Cast(_transposed(old, inner, perm), dtype)
        case Affine(inner, scale, offset):
            return Affine(_transposed(old, inner, perm), scale, offset)
        case Transposed(inner, first):
            return _transposed(old, inner, tuple(first[p] for p in perm))
        case _:
            return _same(old, Transposed(source, perm))


def _reshaped(old: Expr, source: Expr, shape: tuple[int, ...]) -> Expr:
    if source.shape == shape:
        return source
    match source:
        case Cast(inner, dtype):
            return Cast(_reshaped(old, inner, shape), dtype)
        case Affine(inner, scale, offset):
            return Affine(_reshaped(old, inner, shape), scale, offset)
        case Reshaped(inner, _):
            return _reshaped(old, inner, shape)
        case FileRange():
            return replace(source, shape=shape)
        case InMemory(array, kind):
            return InMemory(array.reshape(shape), kind)
        case _:
            return _same(old, Reshaped(source, shape))


def _sliced(old: Expr, source: Expr, axis: int, start: int, stop: int) -> Expr:
    if (start, stop) == (0, source.shape[axis]):
        return source
    match source:
        case Cast(inner, dtype):
            return Cast(_sliced(old, inner, axis, start, stop), dtype)
        case Affine(inner, scale, offset):
            return Affine(_sliced(old, inner, axis, start, stop), scale, offset)
        case Transposed(inner, perm):
            return _transposed(old, _sliced(old, inner, perm[axis], start, stop), perm)
        case Sliced(inner, other, first, _) if other == axis:
            return _sliced(old, inner, axis, first + start, first + stop)
        case Concatenated(parts, joined) if joined == axis:
            return _sliced_parts(old, source, parts, axis, start, stop)
        case FileRange() if axis == 0 and source.dtype.bitwidth >= 8:
            row = prod(source.shape[1:]) * source.dtype.bitwidth // 8
            shape = (stop - start, *source.shape[1:])
            place = source.offset + start * row
            return replace(source, offset=place, length=(stop - start) * row, shape=shape)
        case _:
            return _same(old, Sliced(source, axis, start, stop))


def _sliced_parts(old: Expr, source: Expr, parts: tuple[Expr, ...], axis: int, start: int, stop: int) -> Expr:
    base = 0
    for part in parts:
        size = part.shape[axis]
        if base <= start and stop <= base + size:
            return _sliced(old, part, axis, start - base, stop - base)
        base += size
    return _same(old, Sliced(source, axis, start, stop))


def _concatenated(old: Expr, parts: tuple[Expr, ...], axis: int) -> Expr:
    joined: list[Expr] = []
    for part in parts:
        inner = part.parts if isinstance(part, Concatenated) and part.axis == axis else (part,)
        for piece in inner:
            merged = _adjacent(joined[-1], piece, axis) if joined else None
            if merged is None:
                joined.append(piece)
            else:
                joined[-1] = merged
    first = joined[0]
    if len(joined) == 1:
        return first
    under = tuple(source for piece in joined for source in piece.sources)
    match first:
        case Cast() if all(isinstance(p, Cast) and p.source.dtype == first.source.dtype for p in joined):
            return Cast(_concatenated(old, under, axis), first.dtype)
        case Transposed() if all(isinstance(p, Transposed) and p.perm == first.perm for p in joined):
            return Transposed(_concatenated(old, under, first.perm[axis]), first.perm)
        case _:
            return _same(old, Concatenated(tuple(joined), axis))


def _adjacent(left: Expr, right: Expr, axis: int) -> Expr | None:
    """One expression for two that lie side by side in what they were cut from."""
    if (
        isinstance(left, Sliced)
        and isinstance(right, Sliced)
        and left.axis == right.axis == axis
        and left.stop == right.start
        and left.source.identity == right.source.identity
    ):
        return _sliced(left, left.source, axis, left.start, right.stop)
    if (
        isinstance(left, FileRange)
        and isinstance(right, FileRange)
        and axis == 0
        and (left.path, left.stamp) == (right.path, right.stamp)
        and left.offset + left.length == right.offset
        and left.dtype.bitwidth >= 8
    ):
        shape = (left.shape[0] + right.shape[0], *left.shape[1:])
        return replace(left, length=left.length + right.length, shape=shape)
    return None
