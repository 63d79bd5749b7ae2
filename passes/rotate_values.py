"""rotate-values: the values that an attention adds up in other coordinates, head by head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from graphopt.ir import consumers, is_output, only_user, static_dim
from graphopt.pipeline import Bridge, Context, Contract, Edit, Edits, Level, NearMiss, Nodes, OpsetRange, Pass

from ._adapters import TurnedValues
from ._columns import Columns, again, columns_of
from ._heads import rows_after, swaps_heads
from ._products import Product, products_of, used_elsewhere
from ._rotations import Rotation, rotation

_VALUE, _PAST, _PRESENT = 2, 5, 2  # Attention's inputs V and past_value, its output present_value
_FINITE = 1e4
"""Magnitude of a cache that edits are checked up to: an infinite entry gets into all channels of its head."""


class RotateValues(Pass):
    """The values of an attention, [.., D] each, become v R, with R folded into the weights around it.

    Before: y = MatMul(heads of Attention(q, k, V = heads of MatMul(x, W) + b), O)
    After:  the same with W R, b R and R^T O, the same R [D, D] for each head: attention only adds values up
    Entries that are larger than the rest spread over a head, in both weights and in the cache (R2 of
    SpinQuant, Liu et al. 2024, arXiv 2405.16406; QuaRot, Ashkboos et al. 2024, arXiv 2404.00456). R is a
    randomized Hadamard matrix where one of the size is known. The cache holds v R then: an adapter says so.
    A value that is not finite makes all of its head so.
    Refuses: values that no product makes, or that are for others, too; heads whose size is unknown; weights
    that are used elsewhere; a cache of values that is no input and output of the graph.
    """

    name: ClassVar[str] = "rotate-values"
    level: ClassVar[Level] = Level.COMPRESS
    contract: ClassVar[Contract] = Contract.reassociates()
    opsets: ClassVar[OpsetRange] = OpsetRange(23, None)
    main_graph_only: ClassVar[bool] = True
    idempotent: ClassVar[bool] = False

    @dataclass(frozen=True)
    class Options:
        """seed: of the signs of R."""

        seed: int = 0

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        for node in list(graph):
            if node.domain != "" or node.op_type != "Attention":
                continue
            found = _path(node)
            if isinstance(found, str):
                yield NearMiss(node.name or node.op_type, found)
            else:
                yield _turned(found, rotation(found.size, self.options.seed), self.options.seed)


@dataclass(frozen=True)
class _Path:
    """`columns`, after `before`, are the values of `attention`; `readers` read its result after `behind`."""

    columns: Columns
    before: Sequence[ir.Node]
    attention: ir.Node
    behind: Sequence[ir.Node]
    readers: Sequence[Product]
    size: int

    @property
    def past(self) -> ir.Value | None:
        return self.attention.inputs[_PAST] if len(self.attention.inputs) > _PAST else None

    @property
    def present(self) -> ir.Value | None:
        return self.attention.outputs[_PRESENT] if len(self.attention.outputs) > _PRESENT else None


def _path(attention: ir.Node) -> _Path | str:
    value = attention.inputs[_VALUE]
    turn = value.producer() if value is not None else None
    size = static_dim(value, 3)
    if value is None or turn is None or not swaps_heads(turn) or turn.inputs[0] is None or size is None:
        return "its values are not heads of known size, moved in front of the sequence"
    split = turn.inputs[0].producer()
    if split is None or split.op_type != "Reshape" or split.domain != "" or split.inputs[0] is None:
        return "its values are not split into heads by a Reshape"
    if only_user(value) is None or only_user(turn.inputs[0]) is None:
        return "its values are for others, too"
    width = static_dim(split.inputs[0], -1)
    if width is None or len(split.inputs[0].shape or ()) != 3 or width % size:
        return "its values are not split into heads by a Reshape"
    columns = columns_of(split.inputs[0])
    if isinstance(columns, str):
        return columns
    joined = rows_after(attention.outputs[0])
    if joined is None or joined.inputs[0] is None:
        return "its result is for others, too, or its heads are not joined"
    readers = products_of(joined.outputs[0])
    if isinstance(readers, str):
        return readers
    back = joined.inputs[0].producer()
    assert back is not None
    reason = used_elsewhere([columns.product, *readers])
    found = _Path(columns, (split, turn), attention, (back, joined), readers, size)
    return reason or _unfit_cache(found) or found


def _unfit_cache(found: _Path) -> str | None:
    past, present = found.past, found.present
    if present is not None and (consumers(present) or (is_output(present) and past is None)):
        return "its values are for others, too"
    if past is None:
        return None
    if not past.is_graph_input() or past.is_initializer() or present is None or not is_output(present):
        return "its cache of values is no input and output of the graph"
    if any(user is not found.attention and user.op_type != "Shape" for user in consumers(past)):
        return "its cache of values is used elsewhere, too"
    return None


def _turned(found: _Path, turn: Rotation, seed: int) -> Edit:
    attention, past = found.attention, found.past
    make = Nodes(attention.name or "attention")
    made = again([found.columns], make, lambda expr: turn.of(expr, 0), "turned")
    taken = None if past is None else ir.Value(name=past.name, shape=past.shape, type=past.type)
    if past is not None and taken is not None:
        made[past] = taken
    for node in (*found.before, attention, *found.behind):
        inputs = [made.get(value, value) if value is not None else None for value in node.inputs]
        results = make.copy(node, inputs, f"{node.name}/turned")
        for old, new in zip(node.outputs, results, strict=True):
            new.shape = old.shape
        made |= dict(zip(node.outputs, results, strict=True))
    x = made[found.behind[-1].outputs[0]]
    for product in found.readers:
        made[product.output] = product.again(make, x, turn.of(product.rows, 1), "turned")
    removed = [*found.columns.removed, *found.before, attention, *found.behind]
    removed += [node for product in found.readers for node in product.removed]
    inner = {found.columns.value, *(v for node in (*found.before, *found.behind) for v in node.outputs)}
    inner.add(attention.outputs[0])
    replace = {old: new for old, new in made.items() if old not in inner and (old.uses() or is_output(old))}
    return Edit(
        f"values of {found.size} channels a head turned",
        remove=list(dict.fromkeys(removed)),
        insert=make.nodes,
        initializers=make.initializers,
        replace=replace,
        before=found.behind[-1],
        add_inputs=[] if taken is None else [taken],
        drop_inputs=[] if past is None else [past],
        adapter=_adapter(found, seed),
        bridge=None if taken is None else lambda: _turned_back(found, made, turn),
    )


def _adapter(found: _Path, seed: int) -> TurnedValues | None:
    if found.past is None or found.present is None:
        return None
    return TurnedValues(found.past.name or "", found.present.name or "", found.size, seed)


def _turned_back(found: _Path, made: dict[ir.Value, ir.Value], turn: Rotation) -> Bridge:
    """The turned form from caches of v to caches of v."""
    past, present = found.past, found.present
    assert past is not None
    assert present is not None
    make = Nodes(f"{found.attention.name}/check")
    there = make.constant(turn.matrix, np.float32, "there")
    back = make.constant(np.ascontiguousarray(turn.matrix.T), np.float32, "back")
    fed = make.op("MatMul", [past, there], "fed", like=past)
    held = make.op("MatMul", [fed, back], "held", like=past)
    result = make.op("MatMul", [made[present], back], "result", like=present)
    within = {past: np.full((1, 1, 1, 1), _FINITE)}
    return Bridge(make.nodes, {made[past]: fed}, {past: held, present: result}, within)
