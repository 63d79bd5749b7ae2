"""raise-layer-norm: layer normalization, spelled out, becomes one operator."""

from __future__ import annotations

from typing import ClassVar

import onnx_ir as ir

from graphopt.ir import either_order, producer, scalar_operand
from graphopt.pipeline import Context, Contract, Edit, Edits, Level, OpsetRange, Pass, Trail

from ._norms import (
    TO_QUOTIENT,
    Core,
    following,
    mean_of_squares,
    not_over_last_axis,
    ones_like,
    raised_norms,
    removable,
    root,
    squared,
)


class RaiseLayerNorm(Pass):
    """(x - mean) / sqrt(mean((x - mean)^2) + epsilon) * w + b becomes LayerNormalization (arXiv 1607.06450).

    Before: d = Sub(x, ReduceMean(x)); Add(Mul(Div(d, Sqrt(Add(ReduceMean(Pow(d, 2)), epsilon))), w), b)
            the square also as Mul(d, d), the division also as Mul by a Reciprocal; w and b may be absent
    After:  LayerNormalization(x, w, b), axis -1
    Refuses: means over another axis; epsilon that is not one constant; an exponent off by more than 1e-3 of
    its value; inner values with another use.
    """

    name: ClassVar[str] = "raise-layer-norm"
    level: ClassVar[Level] = Level.RAISE
    contract: ClassVar[Contract] = Contract.reassociates()
    opsets: ClassVar[OpsetRange] = OpsetRange(18, None)

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        yield from raised_norms(graph, _normalized, _raised, _TRAIL)


def _normalized(node: ir.Node) -> Core | str | None:
    """d / sqrt(mean(d^2) + epsilon) with d = x - mean(x), as `node`; why not, where it nearly is."""
    if node.domain != "" or node.op_type not in ("Div", "Mul"):
        return None
    pairs = list(either_order(node))
    for centred, factor in pairs[:1] if node.op_type == "Div" else pairs:
        sub = producer(centred, "Sub")
        divisor = (factor, []) if node.op_type == "Div" else _inverted(factor)
        tail = root(divisor[0]) if divisor is not None else None
        if sub is None or divisor is None or tail is None:
            continue
        found = mean_of_squares(tail[0], centred, "what is divided")
        if found is None or isinstance(found, str):
            return found
        mean, x = producer(sub.inputs[1], "ReduceMean"), sub.inputs[0]
        if mean is None or x is None or mean.inputs[0] is not x:
            return "what is subtracted is not the mean"
        reason = not_over_last_axis(mean, x)
        if reason is not None:
            return reason
        nodes = [node, *divisor[1], *tail[1], *found[1], sub, mean]
        return Core(x, found[0], nodes, node.outputs[0])
    return None


_TRAIL = Trail(
    lambda node: producer(squared(node), "Sub") is not None,
    TO_QUOTIENT,
    "the root of the mean of squares does not divide what is squared",
    over=("Reciprocal",),
)


def _inverted(value: ir.Value) -> tuple[ir.Value | None, list[ir.Node]] | None:
    node = producer(value, "Reciprocal")
    if node is not None:
        return node.inputs[0], [node]
    node = producer(value, "Div")
    if node is not None and scalar_operand(node.inputs[0], node.inputs[1]) == 1.0:
        return node.inputs[1], [node]
    return None


def _raised(core: Core) -> Edit | str:
    reason = removable(core)
    if reason is not None:
        return reason
    tape = ir.tape.Tape()
    nodes, output = list(core.nodes), core.output
    vectors: list[ir.Value] = []
    for op_type in ("Mul", "Add"):
        step = following(output, op_type, core.x)
        if step is None:
            break
        nodes, output = [step[0], *nodes], step[0].outputs[0]
        vectors.append(step[1])
    name = f"{nodes[0].name}/layer_norm"
    if not vectors:
        ones = ones_like(core.x, f"{name}/ones", tape)
        if ones is None:
            return "there is no scale, and the size of the last axis is not known"
        vectors.append(ones)
    attributes = {"axis": -1, "epsilon": core.epsilon}
    y = tape.op("LayerNormalization", [core.x, *vectors], attributes, name=name)
    return Edit(
        "LayerNormalization",
        remove=nodes,
        insert=tape.nodes,
        initializers=tape.initializers,
        replace={output: y},
        before=nodes[0],
    )
