"""raise-rope: rotary position embedding becomes one operator over precomputed tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from graphopt.ir import const_of, producer
from graphopt.pipeline import Context, Contract, Edit, Edits, Level, NearMiss, OpsetRange, Pass

from ._positions import rotary_tables

_END = np.iinfo(np.int32).max


class RaiseRope(Pass):
    """x cos + rotate_half(x) sin becomes RotaryEmbedding (Su et al. 2021, arXiv 2104.09864).

    Before: Add(Mul(x, cos), Mul(Concat(Neg(x[h:]), x[:h]), sin)), cos and sin computed from position_ids
    After:  RotaryEmbedding(x, cos table, sin table, position_ids); the tables are initializers
    Partial rotation (only the first r of the head's entries) keeps its Slice and Concat around the operator.
    Any scaling of the frequencies comes along, because the tables are read off the graph by running it.
    Refuses: tables that are not a function of the position alone (dynamic scaling); halves that differ.
    """

    name: ClassVar[str] = "raise-rope"
    level: ClassVar[Level] = Level.RAISE
    contract: ClassVar[Contract] = Contract.reassociates()
    opsets: ClassVar[OpsetRange] = OpsetRange(23, None)
    main_graph_only: ClassVar[bool] = True

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        tables: dict[tuple[ir.Value, ir.Value], tuple[ir.Value, ir.Value, ir.Value] | str] = {}
        for node in graph:
            match = _rotation(node) if node.op_type == "Add" and node.domain == "" else None
            if match is None:
                continue
            key = (_source(match.cos), _source(match.sin))
            made: list[ir.Value] = []
            if key not in tables:
                tables[key] = _tables(*key, graph, context, made)
            found = tables[key]
            if isinstance(found, str):
                yield NearMiss(node.name or "Add", found)
                continue
            tape = ir.tape.Tape()
            y = tape.op(
                "RotaryEmbedding", [match.x, *found], {"interleaved": 0}, name=f"{node.name}/rotary_embedding"
            )
            yield Edit(
                "RotaryEmbedding",
                remove=match.nodes,
                insert=tape.nodes,
                initializers=made,
                replace={node.outputs[0]: y},
            )


@dataclass
class _Rotation:
    x: ir.Value
    cos: ir.Value
    sin: ir.Value
    nodes: list[ir.Node]


def _rotation(add: ir.Node) -> _Rotation | None:
    for left, right in (tuple(add.inputs), tuple(reversed(add.inputs))):
        straight, turned = producer(left, "Mul"), producer(right, "Mul")
        if straight is None or turned is None:
            continue
        for x, cos in (tuple(straight.inputs), tuple(reversed(straight.inputs))):
            for rotated, sin in (tuple(turned.inputs), tuple(reversed(turned.inputs))):
                nodes = _rotate_half(rotated, x)
                if (
                    nodes
                    and x is not None
                    and cos is not None
                    and sin is not None
                    and len(x.shape or ()) == 4
                ):
                    return _Rotation(x, cos, sin, [add, straight, turned, *nodes])
    return None


def _rotate_half(value: ir.Value | None, x: ir.Value | None) -> list[ir.Node] | None:
    """The nodes of Concat(Neg(second half of x), first half of x)."""
    concat = producer(value, "Concat")
    if concat is None or len(concat.inputs) != 2 or x is None or x.shape is None:
        return None
    negated = producer(concat.inputs[0], "Neg")
    size = x.shape[-1]
    last = (-1, len(x.shape) - 1)
    if negated is None or not isinstance(size, int) or concat.attributes.get_int("axis") not in last:
        return None
    high, low = producer(negated.inputs[0], "Slice"), producer(concat.inputs[1], "Slice")
    if high is None or low is None:
        return _split_halves(negated.inputs[0], concat.inputs[1], x, [concat, negated])
    if high.inputs[0] is not x or low.inputs[0] is not x:
        return None
    half = size // 2
    if _bounds(low, size) != (0, half) or _bounds(high, size) != (half, size):
        return None
    return [concat, negated, high, low]


def _split_halves(
    high: ir.Value | None, low: ir.Value | None, x: ir.Value, nodes: list[ir.Node]
) -> list[ir.Node] | None:
    split = producer(high, "Split")
    if split is None or split is not producer(low, "Split") or split.inputs[0] is not x:
        return None
    return [*nodes, split] if tuple(split.outputs) == (low, high) else None


def _bounds(node: ir.Node, size: int) -> tuple[int, int] | None:
    arrays = [const_of(v) for v in node.inputs[1:]]
    if len(arrays) < 3 or any(a is None or a.size != 1 for a in arrays):
        return None
    start, end, axis, *step = (int(a.reshape(-1)[0]) for a in arrays if a is not None)
    if axis not in (-1, 3) or (step and step[0] != 1):
        return None
    return start, size if end >= _END else end


def _source(value: ir.Value) -> ir.Value:
    """cos and sin before the axis for heads was put in."""
    unsqueeze = producer(value, "Unsqueeze")
    return unsqueeze.inputs[0] if unsqueeze is not None and unsqueeze.inputs[0] is not None else value


def _tables(
    cos: ir.Value, sin: ir.Value, graph: ir.Graph, context: Context, made: list[ir.Value]
) -> tuple[ir.Value, ir.Value, ir.Value] | str:
    found = rotary_tables(cos, sin, graph, context)
    if isinstance(found, str):
        return found
    half = found.cos.shape[1] // 2
    for table in (found.cos, found.sin):
        if not np.array_equal(table[:, :half], table[:, half:]):
            return "the two halves of cos or sin differ"
    for name, table in (("cos", found.cos), ("sin", found.sin)):
        array = np.ascontiguousarray(table[:, :half])
        value = ir.Value(
            name=f"rotary/{name}",
            shape=ir.Shape(array.shape),
            type=ir.TensorType(ir.DataType.FLOAT),
            const_value=ir.tensor(array),
        )
        made.append(value)
    return made[0], made[1], found.positions
