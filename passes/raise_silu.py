"""raise-silu: x / (1 + exp(-x)) becomes x * sigmoid(x)."""

from __future__ import annotations

from typing import ClassVar

import onnx_ir as ir

from graphopt.ir import consumers, producer, scalar_of
from graphopt.pipeline import Context, Contract, Edit, Edits, Level, NearMiss, Pass


class RaiseSilu(Pass):
    """The sigmoid linear unit, decomposed, becomes Mul(x, Sigmoid(x)).

    Before: Div(x, Add(1, Exp(Neg(x))))
    After:  Mul(x, Sigmoid(x))
    Refuses: an addend other than 1; an exponent of something else than -x; inner values with another use.
    """

    name: ClassVar[str] = "raise-silu"
    level: ClassVar[Level] = Level.RAISE
    contract: ClassVar[Contract] = Contract.reassociates()

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        for node in graph:
            if node.op_type != "Div" or node.domain != "" or node.inputs[0] is None:
                continue
            found = _exponential(node)
            if found is None:
                continue
            add, exp, neg, one = found
            if one != 1.0:
                yield NearMiss(node.name or "Div", f"the addend is {one}, not 1")
                continue
            if any(len(consumers(n.outputs[0])) > 1 for n in (add, exp, neg)):
                yield NearMiss(node.name or "Div", "an inner value has another use")
                continue
            tape = ir.tape.Tape()
            gate = tape.op("Sigmoid", [node.inputs[0]], name=f"{node.name}/sigmoid")
            gate.type, gate.shape = node.outputs[0].type, node.outputs[0].shape
            y = tape.op("Mul", [node.inputs[0], gate], name=f"{node.name}/silu")
            yield Edit("SiLU", remove=[node, add, exp, neg], insert=tape.nodes, replace={node.outputs[0]: y})


def _exponential(node: ir.Node) -> tuple[ir.Node, ir.Node, ir.Node, float | None] | None:
    add = producer(node.inputs[1], "Add")
    if add is None:
        return None
    for term, one in (tuple(add.inputs), tuple(reversed(add.inputs))):
        exp = producer(term, "Exp")
        neg = producer(exp.inputs[0], "Neg") if exp is not None else None
        if exp is not None and neg is not None and neg.inputs[0] is node.inputs[0]:
            return add, exp, neg, scalar_of(one)
    return None
