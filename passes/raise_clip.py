"""raise-clip: bounds that are put on a value one after the other become one Clip."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from graphopt.ir import either_order, leak, node_name, only_user, scalar_of, scalar_operand
from graphopt.pipeline import Context, Contract, Edit, Edits, Level, NearMiss, Nodes, OpsetRange, Pass

_KINDS = ("Clip", "Max", "Min", "Relu")
_TYPES = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE)
_Bound = tuple[ir.Value, float, float]  # what is bounded, from where, to where


class RaiseClip(Pass):
    """Two or more of Max, Min, Relu and Clip by constants are one Clip, which runtimes fuse with a layer.

    Before: Min(Max(x, 0), 6) or Min(Relu(x), 6), as TensorFlow's exporters write Relu6; Clip(Clip(x))
    After:  Clip(x, 0, 6)
    A zero may change its sign: Max takes 0 for -0, and Clip keeps it.
    Refuses: bounds that are computed or not one number; an inner value with another use; whole numbers.
    """

    name: ClassVar[str] = "raise-clip"
    level: ClassVar[Level] = Level.RAISE
    contract: ClassVar[Contract] = Contract.reassociates()
    opsets: ClassVar[OpsetRange] = OpsetRange(12, None)

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        for node in graph:
            if node.domain != "" or node.op_type not in _KINDS or node.outputs[0].dtype not in _TYPES:
                continue
            bound = _bound(node)
            if bound is None and any(_bound(maker) for maker in _makers(node)):
                yield NearMiss(node_name(node), "its bounds are not numbers, or the lower one is above")
            if bound is None or _is_bounded(node):
                continue
            x, low, high = bound
            nodes = [node]
            for inner, (below, least, most) in _chain(x):
                low, high = (min(max(end, low), high) for end in (least, most))
                x = below
                nodes.append(inner)
            if len(nodes) == 1:
                continue
            reason = leak(nodes)
            if reason is not None:
                yield NearMiss(node_name(node), reason)
                continue
            yield _edit(nodes, x, low, high)


def _edit(nodes: list[ir.Node], x: ir.Value, low: float, high: float) -> Edit:
    make, old = Nodes(node_name(nodes[0])), nodes[0].outputs[0]
    assert old.dtype is not None
    kind = old.dtype.numpy()
    ends = [
        None if math.isinf(end) else make.constant(end, kind, what)
        for end, what in ((low, "low"), (high, "high"))
    ]
    y = make.op("Clip", [x, *ends], "clip", like=old)
    return Edit(
        f"{len(nodes)} bounds as one",
        remove=nodes,
        insert=make.nodes,
        initializers=make.initializers,
        replace={old: y},
    )


def _chain(x: ir.Value) -> Iterator[tuple[ir.Node, _Bound]]:
    """What bounds `x`, from the last to the first."""
    node = x.producer()
    while node is not None and (bound := _bound(node)) is not None:
        yield node, bound
        node = bound[0].producer()


def _is_bounded(node: ir.Node) -> bool:
    """Whether the one user of `node` bounds what it makes, and so begins the chain."""
    user = only_user(node.outputs[0])
    bound = None if user is None else _bound(user)
    return bound is not None and bound[0] is node.outputs[0]


def _makers(node: ir.Node) -> list[ir.Node]:
    return [maker for value in node.inputs if value is not None and (maker := value.producer()) is not None]


def _bound(node: ir.Node) -> _Bound | None:
    if node.domain != "" or node.op_type not in _KINDS or node.inputs[0] is None:
        return None
    if node.op_type == "Relu":
        return node.inputs[0], 0.0, math.inf
    if node.op_type == "Clip":
        ends = [
            missing if value is None else scalar_of(value)
            for value, missing in zip((*node.inputs[1:], None, None)[:2], (-math.inf, math.inf), strict=True)
        ]
        low, high = ends
        if low is None or high is None or not low <= high:
            return None
        return node.inputs[0], low, high
    if len(node.inputs) != 2:
        return None
    for x, value in either_order(node):
        number = scalar_operand(value, x)
        if number is not None and np.isfinite(number):
            return (x, number, math.inf) if node.op_type == "Max" else (x, -math.inf, number)
    return None
