"""Sizes over the batch, rows and past of a call."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache

import onnx_ir as ir

from graphopt.errors import BadInput

__all__ = ["Dim", "Shape", "broadcast", "over_calls", "simplest", "size_of"]

Dim = int | str
"""A number, or an expression over "batch", "rows" and "past"."""
Shape = tuple[Dim, ...]

_NAME = re.compile(r"[A-Za-z_][\w.]*(?!\w*\()")
_FUNCTIONS = {"max", "min", "Max", "Min", "floor", "ceiling", "Mod", "mod"}


def size_of(dim: Dim, batch: int, rows: int, past: int) -> int:
    """What `dim` is of a call."""
    if isinstance(dim, int):
        return dim
    if dim == "batch":
        return batch
    if dim == "rows":
        return rows
    if dim == "past":
        return past
    if dim == "past + rows":
        return past + rows
    return _evaluated(dim, batch, rows, past)


@lru_cache(maxsize=1 << 14)
def _evaluated(dim: str, batch: int, rows: int, past: int) -> int:
    found = _parsed(dim).evaluate({"batch": batch, "rows": rows, "past": past})
    if not isinstance(found, int):
        raise BadInput(f"size {dim!r} is not one of batch, rows and past alone")
    return found


@lru_cache(maxsize=1 << 12)
def _parsed(dim: str) -> ir.SymbolicDim:
    return ir.SymbolicDim(dim)


def over_calls(text: str, meanings: Mapping[str, Dim]) -> Dim | None:
    """The expression `text` over names, each replaced by what it means; None where one has no meaning."""
    if text in meanings:
        return meanings[text]
    names = [name for name in _NAME.findall(text) if name not in _FUNCTIONS]
    if not names or not set(names) <= meanings.keys():
        return None
    replaced = _NAME.sub(
        lambda found: found[0] if found[0] in _FUNCTIONS else f"({meanings[found[0]]})", text
    )
    return simplest(replaced)


@lru_cache(maxsize=1 << 12)
def simplest(text: str) -> Dim:
    """`text` without what cancels out; a number where nothing else is left."""
    if text.isdecimal():
        return int(text)
    dim = ir.SymbolicDim(text) * 1  # what is computed with is put in order
    value = dim.value if dim.free_symbols() else dim.evaluate({})
    return value if isinstance(value, int | str) else text


def broadcast(shapes: Iterable[Shape]) -> Shape | None:
    """What arrays of these shapes are together, by numpy's rule; None where two sizes may not agree."""
    found: list[Dim] = []
    for shape in shapes:
        found[:0] = [1] * (len(shape) - len(found))
        for place, dim in enumerate(reversed(shape), 1):
            if found[-place] == 1:
                found[-place] = dim
            elif dim not in (1, found[-place]):
                return None
    return tuple(found)
