"""raise-mish: x * tanh(softplus(x)) becomes one operator."""

from __future__ import annotations

from typing import ClassVar

import onnx_ir as ir

from graphopt.ir import either_order, leak, producer, scalar_operand
from graphopt.pipeline import Context, Contract, Edit, Edits, Level, NearMiss, Nodes, OpsetRange, Pass


class RaiseMish(Pass):
    """Mish, spelled out, becomes the operator (Misra 2019, arXiv 1908.08681).

    Before: x * Tanh(Softplus(x)), or x * Tanh(Log(1 + Exp(x)))
    After:  Mish(x)
    Where the logarithm's sum overflows, its tanh is 1 as the softplus' is.
    Refuses: a softplus of something else than x; another addend; inner values with another use.
    """

    name: ClassVar[str] = "raise-mish"
    level: ClassVar[Level] = Level.RAISE
    contract: ClassVar[Contract] = Contract.reassociates()
    opsets: ClassVar[OpsetRange] = OpsetRange(18, None)

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        for node in graph:
            if node.domain != "" or node.op_type != "Mul":
                continue
            for x, gate in either_order(node):
                tanh = producer(gate, "Tanh")
                softplus = _softplus(tanh.inputs[0]) if tanh is not None else None
                if tanh is None or softplus is None:
                    continue
                nodes = [node, tanh, *softplus]
                reason = (
                    leak(nodes)
                    if softplus[-1].inputs[0] is x
                    else "the softplus is not of what is multiplied"
                )
                if reason is not None:
                    yield NearMiss(node.name or "Mul", reason)
                    break
                make, old = Nodes(node.name or "mish"), node.outputs[0]
                y = make.op("Mish", [x], "mish", like=old)
                yield Edit("Mish", remove=nodes, insert=make.nodes, replace={old: y})
                break


def _softplus(value: ir.Value | None) -> list[ir.Node] | None:
    """The nodes of Softplus(x) or Log(1 + Exp(x)), the last one that of x."""
    softplus, log = producer(value, "Softplus"), producer(value, "Log")
    if softplus is not None:
        return [softplus]
    add = producer(log.inputs[0], "Add") if log is not None else None
    for power, one in either_order(add) if add is not None else ():
        exp = producer(power, "Exp")
        if log is not None and add is not None and exp is not None and scalar_operand(one, power) == 1:
            return [log, add, exp]
    return None
