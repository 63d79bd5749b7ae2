"""Lazy weights as JSON: where the bytes lie, and the chain of operations over them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import onnx_ir as ir

from graphopt.cache._plain import CannotStore
from graphopt.ir import (
    Affine,
    Cast,
    Concatenated,
    Expr,
    FileRange,
    InMemory,
    Reshaped,
    Sliced,
    Transposed,
    Unbound,
)

__all__ = ["Files", "decoded_expr", "encoded_expr"]


class Files(Protocol):
    """Where an entry keeps what expressions are made from."""

    def file(self, path: Path, end: int, stamp: int) -> list[Any]:
        """The form of a file of which the first `end` bytes are needed."""

    def held(self, array: InMemory) -> int:
        """Store an array that is in memory; the offset of its bytes."""


def encoded_expr(expr: Expr, files: Files) -> list[Any]:
    """`expr` in what JSON has. Raises `CannotStore` for kinds of expressions that are not graphopt's."""
    match expr:
        case FileRange(path, offset, length, dtype, shape, stamp):
            return [
                "file",
                files.file(path, offset + length, stamp),
                offset,
                length,
                dtype.name,
                list(shape),
                stamp,
            ]
        case InMemory() if expr.dtype != ir.DataType.STRING:
            return ["held", files.held(expr), expr.nbytes, expr.dtype.name, list(expr.shape)]
        case Unbound(name, dtype, shape):
            return ["unbound", name, dtype.name, list(shape)]
        case Cast(source, dtype):
            return ["cast", encoded_expr(source, files), dtype.name]
        case Affine(source, scale, offset):
            return ["affine", encoded_expr(source, files), scale, offset]
        case Transposed(source, perm):
            return ["transposed", encoded_expr(source, files), list(perm)]
        case Reshaped(source, shape):
            return ["reshaped", encoded_expr(source, files), list(shape)]
        case Sliced(source, axis, start, stop):
            return ["sliced", encoded_expr(source, files), axis, start, stop]
        case Concatenated(parts, axis):
            return ["concatenated", [encoded_expr(part, files) for part in parts], axis]
    raise CannotStore(f"a {type(expr).__name__}")


def decoded_expr(form: list[Any], place: Callable[[list[Any]], Path], held: Path) -> Expr:
    """What `encoded_expr` was given; `place` finds a file by its form, `held` has the arrays."""

    def inner(form: list[Any]) -> Expr:
        return decoded_expr(form, place, held)

    match form:
        case ["file", file, offset, length, dtype, shape, stamp]:
            return FileRange(place(file), offset, length, ir.DataType[dtype], tuple(shape), stamp)
        case ["held", offset, length, dtype, shape]:
            kind = ir.DataType[dtype]
            return InMemory(FileRange(held, offset, length, kind, tuple(shape)).read(), kind)
        case ["unbound", name, dtype, shape]:
            return Unbound(name, ir.DataType[dtype], tuple(shape))
        case ["cast", source, dtype]:
            return Cast(inner(source), ir.DataType[dtype])
        case ["affine", source, scale, offset]:
            return Affine(inner(source), scale, offset)
        case ["transposed", source, perm]:
            return Transposed(inner(source), tuple(perm))
        case ["reshaped", source, shape]:
            return Reshaped(inner(source), tuple(shape))
        case ["sliced", source, axis, start, stop]:
            return Sliced(inner(source), axis, start, stop)
        case ["concatenated", parts, axis]:
            return Concatenated(tuple(inner(part) for part in parts), axis)
    raise CannotStore(f"a form {form[0]!r}")
