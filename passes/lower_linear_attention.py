"""lower-linear-attention: a loop over tokens that computes linear attention becomes one kernel."""

from __future__ import annotations

from math import prod
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from graphopt.ir import MICROSOFT, consumers, is_output, producer
from graphopt.pipeline import Context, Contract, Edit, Edits, Level, NearMiss, Nodes, OpsetRange, Pass

from ._recurrence import Recurrence, recurrence_of

_BEFORE_STATE, _AFTER_STATE = ("query", "key", "value"), ("decay", "beta")


class LowerLinearAttention(Pass):
    """A Scan over tokens that computes linear attention, gated or by the delta rule, becomes LinearAttention.

    Before: present, y = Scan(state, inputs...) over [sequence, batch, heads, ...], its body any spelling of
            state = exp(decay) state + key ⊗ value; y = state^T query (or of the delta rule)
    After:  y, present = LinearAttention(query, key, value, state, decay, beta) over [batch, sequence, ...]
    Refuses: a body that computes something else, found out by running it; a loop backwards or over another
    axis than the first; values taken from outside; a type other than float32.
    """

    name: ClassVar[str] = "lower-linear-attention"
    level: ClassVar[Level] = Level.LOWER
    contract: ClassVar[Contract] = Contract.reassociates()
    opsets: ClassVar[OpsetRange] = OpsetRange(13, None)

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        for node in graph:
            if node.op_type != "Scan" or node.domain != "":
                continue
            found = _direction(node) or recurrence_of(node, graph.opset_imports)
            if isinstance(found, str):
                yield NearMiss(node.name or "Scan", found)
                continue
            yield _lowered(node, found)


def _direction(node: ir.Node) -> str | None:
    names = ("scan_input_axes", "scan_output_axes", "scan_input_directions", "scan_output_directions")
    if any(value != 0 for name in names for value in node.attributes.get_ints(name) or ()):
        return "the loop runs backwards, or over another axis than the first"
    return None


def _lowered(node: ir.Node, found: Recurrence) -> Edit:
    make = Nodes(node.name or "scan")
    state, *inputs = node.inputs
    before = dict.fromkeys(turn for value in inputs if (turn := _turned_for(node, value)) is not None)
    given = {role: _batch_first(node, inputs[index], role, make) for role, index in found.roles.items()}
    batch, sequence = given["value"].shape[:2]  # type: ignore[index]
    width = found.heads * found.value_size
    y, present = make.many(
        "LinearAttention",
        [*map(given.get, _BEFORE_STATE), state, *map(given.get, _AFTER_STATE[: 1 + ("beta" in given)])],
        "linear_attention",
        [_like([batch, sequence, width]), node.outputs[0]],
        domain=MICROSOFT,
        q_num_heads=found.heads,
        kv_num_heads=found.heads,
        update_rule=found.rule,
        scale=1.0,
    )
    shape = make.constant([0, 0, found.heads, found.value_size], np.int64, "head_shape")
    by_head = make.op(
        "Reshape", [y, shape], "heads", like=_like([batch, sequence, found.heads, found.value_size])
    )
    result = node.outputs[1]
    turned = [user for user in consumers(result) if _swaps_first(user)]
    replace = {node.outputs[0]: present, **{user.outputs[0]: by_head for user in turned}}
    if is_output(result) or len(turned) < len(consumers(result)):
        replace[result] = make.op("Transpose", [by_head], "sequence_first", like=result, perm=[1, 0, 2, 3])
    return Edit(
        f"LinearAttention, {found.rule}",
        remove=[*before, node, *turned],
        insert=make.nodes,
        initializers=make.initializers,
        replace=replace,
        before=node,
    )


def _turned_for(scan: ir.Node, value: ir.Value | None) -> ir.Node | None:
    """The Transpose of the first two axes that makes `value` for the steps of `scan` alone, if one does."""
    before = producer(value, "Transpose")
    if before is None or not _swaps_first(before) or is_output(before.outputs[0]):
        return None
    if scan.inputs[0] is value:
        return None
    return before if consumers(before.outputs[0]) == (scan,) else None


def _batch_first(scan: ir.Node, value: ir.Value | None, role: str, make: Nodes) -> ir.Value:
    """[sequence, batch, heads, size] or [sequence, batch, heads] as [batch, sequence, all of the rest]."""
    assert value is not None
    assert value.shape is not None
    sequence, batch, *rest = value.shape
    before = _turned_for(scan, value)
    if before is not None:
        turned = before.inputs[0]
    else:
        perm = [1, 0, *range(2, len(value.shape))]
        turned = make.op(
            "Transpose", [value], f"{role}_batch_first", like=_like([batch, sequence, *rest]), perm=perm
        )
    if len(rest) == 1:
        return turned  # type: ignore[return-value]
    width = prod(dim for dim in rest if isinstance(dim, int))
    shape = make.constant([0, 0, width], np.int64, f"{role}_shape")
    return make.op("Reshape", [turned, shape], role, like=_like([batch, sequence, width]))


def _swaps_first(node: ir.Node) -> bool:
    """Whether it is a Transpose that exchanges the first two axes."""
    perm = list(node.attributes.get_ints("perm") or ())
    return node.op_type == "Transpose" and node.domain == "" and perm == [1, 0, *range(2, len(perm))]


def _like(shape: list[int | ir.SymbolicDim]) -> ir.Value:
    return ir.Value(name="like", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(shape))
