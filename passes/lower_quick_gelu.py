"""lower-quick-gelu: x * sigmoid(alpha x) becomes one kernel."""

from __future__ import annotations

from typing import ClassVar

import onnx_ir as ir

from graphopt.ir import consumers, producer, scalar_of
from graphopt.pipeline import Context, Contract, Edit, Edits, Level, NearMiss, Pass


class LowerQuickGelu(Pass):
    """SiLU and its scaled form become com.microsoft QuickGelu.

    Before: Mul(x, Sigmoid(x)) or Mul(x, Sigmoid(Mul(x, alpha)))
    After:  QuickGelu(x), alpha as its attribute (1 for SiLU)
    Refuses: a Sigmoid with another use; alpha that is not one constant number.
    """

    name: ClassVar[str] = "lower-quick-gelu"
    level: ClassVar[Level] = Level.LOWER
    contract: ClassVar[Contract] = Contract.reassociates()

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        for node in graph:
            if node.op_type != "Mul" or node.domain != "":
                continue
            for x, gate in (tuple(node.inputs), tuple(reversed(node.inputs))):
                sigmoid = producer(gate, "Sigmoid")
                if sigmoid is None or x is None:
                    continue
                scaled = _scale(sigmoid.inputs[0], x)
                if scaled is None:
                    continue
                if len(consumers(sigmoid.outputs[0])) > 1:
                    yield NearMiss(node.name or "Mul", "the sigmoid has another use")
                    continue
                alpha, inner = scaled
                tape = ir.tape.Tape()
                y = tape.op(
                    "QuickGelu", [x], {"alpha": alpha}, domain="com.microsoft", name=f"{node.name}/quick_gelu"
                )
                yield Edit(
                    "QuickGelu", remove=[node, sigmoid, *inner], insert=tape.nodes, replace={node.outputs[0]: y}
                )
                break


def _scale(value: ir.Value | None, x: ir.Value) -> tuple[float, list[ir.Node]] | None:
    """alpha with value = alpha x, and the Mul that made it, if it has no other use."""
    if value is x:
        return 1.0, []
    mul = producer(value, "Mul")
    if mul is None or value is None:
        return None
    for other, factor in (tuple(mul.inputs), tuple(reversed(mul.inputs))):
        alpha = scalar_of(factor)
        if other is x and alpha is not None:
            return alpha, [mul] if len(consumers(value)) == 1 else []
    return None
