"""raise-silu: x / (1 + exp(-x)) becomes x * sigmoid(x)."""

from __future__ import annotations

from typing import ClassVar

import onnx_ir as ir

from graphopt.ir import either_order, leak, producer, scalar_operand, wrong_constant
from graphopt.pipeline import Context, Contract, Edit, Edits, Level, NearMiss, Pass, Trail


class RaiseSilu(Pass):
    """The logistic function and the sigmoid linear unit, decomposed, become Sigmoid and Mul(x, Sigmoid(x)).

    Before: Div(x, Add(1, Exp(Neg(x))))              After: Mul(x, Sigmoid(x))
    Before: Div(1, Add(1, Exp(Neg(x)))), or its Reciprocal   After: Sigmoid(x)
    A Sigmoid of something else than x (1.702 x, say) is left as it is.
    Refuses: an addend off by more than 1e-3; inner values with another use.
    """

    name: ClassVar[str] = "raise-silu"
    level: ClassVar[Level] = Level.RAISE
    contract: ClassVar[Contract] = Contract.reassociates()

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        told: set[ir.Node] = set()
        for node in graph:
            if node.domain != "" or node.op_type not in ("Div", "Reciprocal"):
                continue
            found = _exponential(node.inputs[-1])
            if found is None:
                continue
            x, one, inner = found
            dividend = node.inputs[0] if node.op_type == "Div" else None
            is_sigmoid = dividend is None or scalar_operand(dividend, x) == 1.0
            if not is_sigmoid and dividend is not x:
                continue
            told.add(node)
            nodes = [node, *inner]
            reason = wrong_constant("the addend", one, 1) or leak(nodes)
            if reason is not None:
                yield NearMiss(node.name or node.op_type, reason)
                continue
            tape = ir.tape.Tape()
            y = tape.op("Sigmoid", [x], name=f"{node.name}/sigmoid")
            y.type, y.shape = node.outputs[0].type, node.outputs[0].shape
            if not is_sigmoid:
                y = tape.op("Mul", [x, y], name=f"{node.name}/silu")
            summary = "Sigmoid" if is_sigmoid else "SiLU"
            yield Edit(summary, remove=nodes, insert=tape.nodes, replace={node.outputs[0]: y})
        yield from _TRAIL.near_misses(graph, told)


_TRAIL = Trail(
    lambda node: node.op_type == "Exp" and producer(node.inputs[0], "Neg") is not None,
    (("Add",), ("Div", "Reciprocal")),
    "what is divided is neither 1 nor x of 1 + exp(-x), or no number is added",
    least=1,
)


def _exponential(value: ir.Value | None) -> tuple[ir.Value, float, list[ir.Node]] | None:
    """x, the addend and the nodes of Add(1, Exp(Neg(x)))."""
    add = producer(value, "Add")
    for term, addend in either_order(add) if add is not None else ():
        exp = producer(term, "Exp")
        neg = producer(exp.inputs[0], "Neg") if exp is not None else None
        one = scalar_operand(addend, term)
        if add is None or exp is None or neg is None or neg.inputs[0] is None or one is None:
            continue
        return neg.inputs[0], one, [add, exp, neg]
    return None
