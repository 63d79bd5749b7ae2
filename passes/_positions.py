"""Rotary tables, found by running the part of the graph that makes cos and sin from positions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from graphopt.ir import const_of, evaluator, extract
from graphopt.pipeline import Context

__all__ = ["UNKNOWN_END", "Tables", "rotary_tables"]

UNKNOWN_END = "the longest position is not known"
"""Why there is no table for angles that a graph computes, where no configuration says how far."""

Array = np.ndarray[Any, Any]
_LAST_BITS = 1e-6  # a vector kernel and its scalar remainder round differently
_SHAPES = (
    (2, 5),
    (3, 7),
    (1, 1),
    (1, 3),
)  # batches and one row, one position and several
_RESHAPES = ("Unsqueeze", "Cast", "Identity", "Tile")


@dataclass(frozen=True)
class Tables:
    """cos and sin [positions, rotated size], and the integer value that says which rows to take.

    `positions` is [batch, sequence], [1, sequence] or [sequence]; `heads_axis` says where cos and sin leave
    room for the heads: 1 in [batch, heads, sequence, size], 2 in [batch, sequence, heads, size]. With
    `short`, the last that many rows are those for calls whose positions are all below that number.
    """

    cos: Array
    sin: Array
    positions: ir.Value
    heads_axis: int
    short: int = 0


def rotary_tables(cos: ir.Value, sin: ir.Value, graph: ir.Graph, context: Context) -> Tables | str:
    """The tables behind `cos` and `sin`, or why there are none.

    They are read off at positions 0..max_position_embeddings - 1 (or the rows of the table that the graph
    itself gathers from) and checked against the graph at random positions, small and large ones, in calls of
    several shapes. Where they are others once a position reaches original_max_position_embeddings, there are
    two tables in one; what depends otherwise on the length of a call or on its other positions is refused.
    """
    found = _positions(cos, sin)
    if found is None:
        return "cos and sin are not made from one tensor of integer positions"
    positions, count = found
    count = count or context.config.get("max_position_embeddings")
    if not isinstance(count, int):
        return UNKNOWN_END
    piece = extract(graph, [cos, sin], cut=[positions])
    others = [v.name for v in piece.graph.inputs if v.name != positions.name]
    if others:
        return f"cos and sin depend on more than the positions: {others[0]}"
    try:
        read = _read(piece, positions, count)
        short = _original_length(context)
        if isinstance(read, str) and short is not None and short < count:
            longer = _read(piece, positions, count, short)
            read = read if isinstance(longer, str) else longer
        return read
    except Exception as error:  # onnxruntime has a class for each of its errors, with no common one
        return f"cos and sin cannot be computed: {error}"


def _original_length(context: Context) -> int | None:
    """How long texts were before a model was made to read longer ones, where its configuration says so."""
    scaling = context.config.get("rope_parameters") or context.config.get("rope_scaling") or {}
    name = "original_max_position_embeddings"
    found = context.config.get(name) or (scaling.get(name) if isinstance(scaling, dict) else None)
    return found if isinstance(found, int) else None


def _read(piece: ir.Model, positions: ir.Value, count: int, short: int = 0) -> Tables | str:
    shape = positions.shape
    assert shape is not None
    assert positions.dtype is not None
    run = _Run(evaluator(piece), positions.name or "", positions.dtype.numpy(), (len(shape), shape[0] == 1))
    tables = [y.reshape(-1, y.shape[-1]) for y in run(np.arange(count)[None])]
    if any(t.shape[0] != count for t in tables):
        return "cos and sin are not one row a position"
    if short:
        of_short = [y.reshape(-1, y.shape[-1]) for y in run(np.arange(short)[None])]
        tables = [np.concatenate(both) for both in zip(tables, of_short, strict=True)]
    axes: set[int] = set()
    for ids in _calls(count, short):
        if not run.takes(ids):
            continue
        for table, got in zip(tables, run(ids), strict=True):
            axis = _heads_axis(got, ids, table.shape[1])
            if axis is None:
                return "cos and sin are not [batch, 1, sequence, size] or [batch, sequence, 1, size]"
            if ids.shape[1] > 1:
                axes.add(axis)
            rows = ids + (count if ids.max() < short else 0)
            if not np.allclose(got.reshape(*ids.shape, -1), table[rows], rtol=0, atol=_LAST_BITS):
                return "a row of cos or sin is not a function of its position alone"
    if len(axes) != 1:
        return "cos and sin differ"
    return Tables(tables[0], tables[1], positions, axes.pop(), short)


@dataclass(frozen=True)
class _Run:
    """Runs a piece on positions [batch, sequence], in the form it wants them in."""

    piece: Callable[[Mapping[str, Array]], list[Array]]
    name: str
    dtype: Any
    form: tuple[int, bool]  # rank, and whether the batch is always 1

    def takes(self, ids: Array) -> bool:
        return ids.shape[0] == 1 or self.form == (2, False)

    def __call__(self, ids: Array) -> list[Array]:
        fed = ids[0] if self.form[0] == 1 else ids
        return self.piece({self.name: fed.astype(self.dtype)})


def _calls(count: int, short: int) -> Iterator[Array]:
    """Positions int64[batch, sequence] below every fourth power of two up to `count`, and around `short`."""
    rng = np.random.default_rng(0)
    limit = 4
    if short:
        yield np.asarray([[0, short - 1]])
        yield np.asarray([[0, short]])
    while True:
        limit = min(limit, count)
        for shape in _SHAPES:
            yield rng.integers(0, limit, shape)
        yield np.asarray([[limit - 1]])
        if limit == count:
            return
        limit *= 4


def _heads_axis(value: Array, ids: Array, width: int) -> int | None:
    """Where `value`, made for these positions, has an axis of 1 for the heads."""
    if value.ndim < 3 or value.ndim > 4:
        return None
    batch, sequence = ids.shape
    if value.ndim == 3:
        value = value[None]
    if value.shape == (batch, 1, sequence, width):
        return 1
    return 2 if value.shape == (batch, sequence, 1, width) else None


def _positions(cos: ir.Value, sin: ir.Value) -> tuple[ir.Value, int | None] | None:
    """The integers that `cos` and `sin` are made from, and how many there may be, where the graph says so."""
    of_cos, of_sin = _integers(cos), _integers(sin)
    if of_cos != of_sin or len(of_cos) != 1:
        return None
    ((positions, count),) = of_cos.items()
    return (positions, count) if len(positions.shape or ()) in (1, 2) else None


def _integers(value: ir.Value) -> dict[ir.Value, int | None]:
    """Integers that become floats on the way to `value`: cast, or as rows of a constant table of so many."""
    found: dict[ir.Value, int | None] = {}
    seen: set[ir.Node] = set()
    stack = [value]
    while stack:
        node = stack.pop().producer()
        if node is None or node in seen or node.domain != "":
            continue
        seen.add(node)
        data = node.inputs[0] if node.inputs else None
        rows = const_of(data) if node.op_type == "Gather" else None
        if node.op_type == "Cast" and data is not None and _is_integer(data):
            found[_unshaped(data)] = None
        elif rows is not None and node.inputs[1] is not None and node.attributes.get_int("axis", 0) == 0:
            found[_unshaped(node.inputs[1])] = rows.shape[0]
        elif node.op_type == "GatherElements" and node.inputs[1] is not None:
            found[_unshaped(node.inputs[1])] = None
        else:
            stack.extend(v for v in node.inputs if v is not None and not _is_integer(v))
    return found


def _unshaped(value: ir.Value) -> ir.Value:
    """Integers before axes were put in and before they were cast to these."""
    while (node := value.producer()) is not None and node.domain == "" and node.op_type in _RESHAPES:
        source = node.inputs[0]
        if source is None or not _is_integer(source):
            break
        value = source
    return value


def _is_integer(value: ir.Value) -> bool:
    return value.dtype in (ir.DataType.INT64, ir.DataType.INT32)
