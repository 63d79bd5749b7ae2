"""Lazy weights as JSON: where the bytes lie, and the chain of operations over them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, Protocol

import onnx_ir as ir

from graphopt.cache._entry import Damaged
from graphopt.cache._plain import CannotStore
from graphopt.ir import Expr, FileRange, InMemory, expression_type

__all__ = ["Files", "decoded_expr", "encoded_expr"]


class Files(Protocol):
    """Where an entry keeps what expressions are made from."""

    def file(self, path: Path, end: int, stamp: int) -> list[Any]:
        """The form of a file of which the first `end` bytes are needed."""

    def held(self, array: InMemory) -> int:
        """Store an array that is in memory; the offset of its bytes."""


def encoded_expr(expr: Expr, files: Files) -> list[Any]:
    """`expr` in what JSON has: its `op` and its fields, or where its bytes lie.

    Raises `CannotStore` for one without an `op` of its own, and for fields that are not plain values.
    """
    match expr:
        case FileRange(path, offset, length, dtype, shape, stamp):
            place = files.file(path, offset + length, stamp)
            return [expr.op, place, offset, length, dtype.name, list(shape), stamp]
        case InMemory() if expr.dtype != ir.DataType.STRING:
            return [expr.op, files.held(expr), expr.nbytes, expr.dtype.name, list(expr.shape)]
    if isinstance(expr, InMemory) or expression_type(vars(type(expr)).get("op")) is not type(expr):
        raise CannotStore(f"a {type(expr).__name__}")
    values = (getattr(expr, field.name) for field in fields(expr))  # type: ignore[arg-type]
    return [expr.op, *(_encoded(value, files) for value in values)]


def _encoded(value: object, files: Files) -> Any:
    match value:
        case Expr():
            return {"expr": encoded_expr(value, files)}
        case ir.DataType():
            return {"dtype": value.name}
        case tuple():
            return [_encoded(part, files) for part in value]
        case None | bool() | int() | float() | str():
            return value
    raise CannotStore(f"a {type(value).__name__} in an expression")


def decoded_expr(form: list[Any], place: Callable[[list[Any]], Path], held: Path) -> Expr:
    """What `encoded_expr` was given; `place` finds a file by its form, `held` has the arrays.

    Raises `Damaged` for an `op` that nothing in use brings.
    """

    def decoded(value: Any) -> Any:
        match value:
            case {"expr": inner}:
                return decoded_expr(inner, place, held)
            case {"dtype": name}:
                return ir.DataType[name]
            case list():
                return tuple(map(decoded, value))
        return value

    match form:
        case [FileRange.op, file, offset, length, dtype, shape, stamp]:
            return FileRange(place(file), offset, length, ir.DataType[dtype], tuple(shape), stamp)
        case [InMemory.op, offset, length, dtype, shape]:
            kind = ir.DataType[dtype]
            return InMemory(FileRange(held, offset, length, kind, tuple(shape)).read(), kind)
    op, *values = form
    known = expression_type(op)
    if known is None:
        raise Damaged(f"nothing brings the expression {op!r}")
    return known(*map(decoded, values))
