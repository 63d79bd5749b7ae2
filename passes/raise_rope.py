"""raise-rope: rotary position embedding becomes one operator over precomputed tables."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir

from graphopt.ir import consumers, either_order, only_user, orphans, producer, run_from, sample_of, static_dim
from graphopt.pipeline import (
    Context,
    Contract,
    Edit,
    Edits,
    Level,
    NearMiss,
    Nodes,
    OpsetRange,
    Outcome,
    Pass,
    Trail,
)

from ._positions import Tables, rotary_tables

_LAYOUT = (
    "Concat",
    "Gather",
    "Identity",
    "Neg",
    "Reshape",
    "Slice",
    "Split",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
)
_LONGEST = 16  # nodes from x to what sin multiplies: a judgement, several times what halves take


class RaiseRope(Pass):
    """x cos + rotate(x) sin becomes RotaryEmbedding (Su et al. 2021, arXiv 2104.09864).

    Before: Add(Mul(x, cos), Mul(rotate(x), sin)), cos and sin computed from positions, x with four axes;
            rotate is whatever moves and negates entries like Concat(Neg(x[h:]), x[:h]) does, or like
            GPT-J's interleaved pairs
    After:  RotaryEmbedding(x, cos table, sin table, positions); the tables are initializers
    Before: Concat(the same of x[:r], x[r:]), the first r entries of each head rotated
    After:  RotaryEmbedding(x, ..), rotary_embedding_dim = r
    Any scaling of the frequencies comes along, because the tables are read off the graph by running it.
    Long RoPE, with other tables once a position reaches original_max_position_embeddings, becomes one table
    of both, and positions that are moved to its end in shorter calls.
    Refuses: tables that depend otherwise on more than the position (dynamic scaling); halves or pairs of them
    that differ; positions that are not bounded.
    """

    name: ClassVar[str] = "raise-rope"
    level: ClassVar[Level] = Level.RAISE
    contract: ClassVar[Contract] = Contract.reassociates()
    opsets: ClassVar[OpsetRange] = OpsetRange(23, None)
    main_graph_only: ClassVar[bool] = True

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        shared = _Shared(graph, context)
        told: set[ir.Node] = set()
        for node in graph:
            rotation = _rotation(node) if node.op_type == "Add" and node.domain == "" else None
            if rotation is None:
                continue
            told.add(node)
            operands = shared.operands(rotation)
            if isinstance(operands, str):
                yield NearMiss(node.name or "Add", operands)
            elif (yield _raised(rotation, operands)) is Outcome.APPLIED:
                shared.keep(rotation, operands)
        yield from _TRAIL.near_misses(graph, told)


_TRAIL = Trail(
    lambda node: node.op_type == "Neg" and any(_is_part(value) for value in node.inputs),
    (("Concat",), ("Mul",), ("Add",)),
    "what sin multiplies does not turn halves or pairs of x, or x is not of four axes and known size",
    over=tuple(name for name in _LAYOUT if name != "Concat"),
    least=1,
)


def _is_part(value: ir.Value | None) -> bool:
    """Whether `value` is some entries of another: cut out, perhaps moved."""
    for _ in range(3):
        node = value.producer() if value is not None else None
        if node is None or node.domain != "":
            return False
        if node.op_type in ("Gather", "Slice", "Split"):
            return True
        value = node.inputs[0] if node.op_type in _LAYOUT else None
    return False


@dataclass(frozen=True)
class _Rotation:
    """add = x cos + turned sin; `interleaved` says which entries `turned` pairs."""

    add: ir.Node
    x: ir.Value
    cos: ir.Value
    sin: ir.Value
    interleaved: bool


def _rotation(add: ir.Node) -> _Rotation | None:
    for left, right in either_order(add):
        straight, turned = producer(left, "Mul"), producer(right, "Mul")
        if straight is None or turned is None:
            continue
        for x, cos in either_order(straight):
            for rotated, sin in either_order(turned):
                if len(x.shape or ()) == 4 and _moves(rotated, x):
                    interleaved = _pairing(rotated, x)
                    if interleaved is not None:
                        return _Rotation(add, x, cos, sin, interleaved)
    return None


def _moves(value: ir.Value, x: ir.Value) -> bool:
    """Whether `value` is made from `x` by a few nodes that only move and negate entries."""
    seen: set[ir.Node] = set()
    stack = [value]
    while stack:
        inner = stack.pop()
        node = inner.producer()
        if inner is x or inner.is_initializer() or node in seen:
            continue
        if node is None or node.domain != "" or node.op_type not in _LAYOUT or len(seen) == _LONGEST:
            return False
        seen.add(node)
        stack.extend(v for v in node.inputs if v is not None)
    return value is not x


def _pairing(value: ir.Value, x: ir.Value) -> bool | None:
    """False where `value` is (-x2, x1) of the halves of x, True of its even and odd entries; else None."""
    sample = sample_of(x)
    if sample is None or sample.shape[-1] % 2:
        return None
    got = run_from(x, sample, [value])
    if got is None:
        return None
    half = sample.shape[-1] // 2
    halves = np.concatenate([-sample[..., half:], sample[..., :half]], -1)
    pairs = np.stack([-sample[..., 1::2], sample[..., ::2]], -1).reshape(sample.shape)
    for interleaved, wanted in ((False, halves), (True, pairs)):
        if np.array_equal(got[0], wanted):
            return interleaved
    return None


@dataclass
class _Operands:
    """cos and sin tables and positions [batch, sequence]; what of it is new; where the heads are."""

    values: list[ir.Value]
    nodes: list[ir.Node]
    initializers: list[ir.Value]
    heads_axis: int


@dataclass
class _Shared:
    """Tables and positions that rotations share, made with the first that needs them."""

    graph: ir.Graph
    context: Context
    tables: dict[tuple[ir.Value, ir.Value], Tables | str] = field(default_factory=dict)
    kept: dict[tuple[ir.Value, ir.Value, bool], _Operands] = field(default_factory=dict)

    def operands(self, rotation: _Rotation) -> _Operands | str:
        pair = rotation.cos, rotation.sin
        if pair not in self.tables:
            self.tables[pair] = rotary_tables(*pair, self.graph, self.context)
        tables = self.tables[pair]
        if isinstance(tables, str):
            return tables
        return self.kept.get((*pair, rotation.interleaved)) or _operands(tables, rotation)

    def keep(self, rotation: _Rotation, operands: _Operands) -> None:
        """`operands` are in the graph now."""
        kept = _Operands(operands.values, [], [], operands.heads_axis)
        self.kept[rotation.cos, rotation.sin, rotation.interleaved] = kept


def _operands(tables: Tables, rotation: _Rotation) -> _Operands | str:
    make = Nodes(f"{rotation.add.name}/rotary")
    values = []
    width = static_dim(rotation.x, -1)
    for name, table in (("cos", tables.cos), ("sin", tables.sin)):
        if table.shape[1] != width:
            return f"{name} has {table.shape[1]} entries for the {width} of x"
        half = table.shape[1] // 2
        once, again = (
            (table[:, ::2], table[:, 1::2]) if rotation.interleaved else (table[:, :half], table[:, half:])
        )
        if not np.array_equal(once, again):
            return f"the {'pairs' if rotation.interleaved else 'halves'} of {name} differ"
        values.append(make.weight(ir.tensor(np.ascontiguousarray(once)), f"{make.base}/{name}"))
    positions = _per_row(tables, rotation.x, make)
    return _Operands([*values, positions], make.nodes, make.initializers, tables.heads_axis)


def _per_row(tables: Tables, x: ir.Value, make: Nodes) -> ir.Value:
    """Positions int64[batch, sequence], for every row of `x`."""
    positions, axis = tables.positions, 3 - tables.heads_axis
    assert x.shape is not None
    assert positions.shape is not None
    if positions.dtype != ir.DataType.INT64:
        positions = make.op("Cast", [positions], "int64", like=positions, dtype=ir.DataType.INT64, to=7)
    if tables.short:
        positions = _of_length(positions, tables, make)
    assert positions.shape is not None
    wanted = [x.shape[0], x.shape[axis]]
    if list(positions.shape) == wanted and all(isinstance(d, int) or d.value is not None for d in wanted):
        return positions
    sizes = [
        make.op("Shape", [x], label, dtype=ir.DataType.INT64, shape=[1], start=at, end=at + 1)
        for label, at in (("batch", 0), ("sequence", axis))
    ]
    target = make.op("Concat", sizes, "size", dtype=ir.DataType.INT64, shape=[2], axis=0)
    return make.op("Expand", [positions, target], "positions", dtype=ir.DataType.INT64, shape=wanted)


def _of_length(positions: ir.Value, tables: Tables, make: Nodes) -> ir.Value:
    """`positions`, moved behind the rows for long calls where all are below `tables.short`."""
    int64 = ir.DataType.INT64
    limit = make.constant(tables.short, np.int64, "short")
    behind, zero = (
        make.constant(len(tables.cos) - tables.short, np.int64, "behind"),
        make.constant(0, np.int64, "zero"),
    )
    longest = make.op("ReduceMax", [positions], "longest", dtype=int64, shape=[], keepdims=0)
    is_short = make.op("Less", [longest, limit], "is_short", dtype=ir.DataType.BOOL, shape=[])
    offset = make.op("Where", [is_short, behind, zero], "offset", dtype=int64, shape=[])
    return make.op("Add", [positions, offset], "rows", like=positions)


def _raised(rotation: _Rotation, operands: _Operands) -> Edit:
    add, x, last = rotation.add, rotation.x, rotation.add
    make = Nodes(f"{add.name}/rotary")
    attributes: dict[str, Any] = {"interleaved": int(rotation.interleaved)}
    whole = _whole(rotation)
    if whole is not None:
        x, last = whole
        attributes["rotary_embedding_dim"] = static_dim(rotation.x, -1) or 0
    like = last.outputs[0]
    turned = operands.heads_axis == 2
    if turned:
        x = _swapped(x, make, "heads_first")
    y = make.op(
        "RotaryEmbedding", [x, *operands.values], "embedding", like=x if turned else like, **attributes
    )
    if turned:
        y = _swapped(y, make, "heads_last")
    nodes = [*operands.nodes, *make.nodes]
    used = {value for node in nodes for value in node.inputs if value is not None}
    return Edit(
        "RotaryEmbedding" if whole is None else "RotaryEmbedding of the first entries of each head",
        remove=orphans([last], used),
        insert=nodes,
        initializers=operands.initializers,
        replace={like: y},
        before=last,
    )


def _swapped(value: ir.Value, make: Nodes, label: str) -> ir.Value:
    shape = None if value.shape is None else [value.shape[axis] for axis in (0, 2, 1, 3)]
    return make.op("Transpose", [value], label, dtype=value.dtype, shape=shape, perm=[0, 2, 1, 3])


def _whole(rotation: _Rotation) -> tuple[ir.Value, ir.Node] | None:
    """All of a head, and the Concat behind its rotation, where only its first entries are rotated."""
    part = producer(rotation.x, "Slice") or producer(rotation.x, "Split")
    concat = only_user(rotation.add.outputs[0])
    x = part.inputs[0] if part is not None else None
    if x is None or concat is None or concat.op_type != "Concat" or len(concat.inputs) != 2:
        return None
    rest = concat.inputs[1]
    if rest is None or rest not in _parts(x) or concat.attributes.get_int("axis") not in (-1, 3):
        return None
    sample, size = sample_of(x), static_dim(rotation.x, -1)
    parts = run_from(x, sample, [rotation.x, rest]) if sample is not None else None
    if sample is None or parts is None:
        return None
    wanted = sample[..., :size], sample[..., size:]
    return (x, concat) if all(map(np.array_equal, parts, wanted)) else None


def _parts(x: ir.Value) -> set[ir.Value]:
    return {value for user in consumers(x) if user.op_type in ("Slice", "Split") for value in user.outputs}
