"""raise-softplus: a softplus that is the identity beyond a threshold becomes the operator alone."""

from __future__ import annotations

import math
from typing import ClassVar

import onnx_ir as ir

from graphopt.ir import leak, producer, scalar_operand
from graphopt.pipeline import Context, Contract, Edit, Edits, Level, NearMiss, Nodes, Pass

_HALF_UNIT = (
    2**-25
)  # the most that rounding to float32 takes from a number is this share of it, or twice that


class RaiseSoftplus(Pass):
    """torch's softplus with its threshold becomes Softplus, which is the identity there up to rounding.

    Before: Where(x > t, x, Softplus(x)), log(1 + exp(-t)) less than rounding takes from t (torch: t = 20)
    After:  Softplus(x)
    Refuses: a threshold at which the two differ in float32; a Softplus or comparison with another use; an x
    of another type than float32 or float16.
    """

    name: ClassVar[str] = "raise-softplus"
    level: ClassVar[Level] = Level.RAISE
    contract: ClassVar[Contract] = Contract.reassociates()

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        for node in graph:
            if node.domain != "" or node.op_type != "Where":
                continue
            chosen, x, otherwise = node.inputs
            greater, softplus = producer(chosen, "Greater"), producer(otherwise, "Softplus")
            if greater is None or softplus is None or x is None or softplus.inputs[0] is not x:
                continue
            threshold = scalar_operand(greater.inputs[1], x) if greater.inputs[0] is x else None
            reason = leak([node, greater, softplus])
            if threshold is None:
                reason = "x is not compared with a number"
            elif threshold <= 0 or math.exp(-threshold) > threshold * _HALF_UNIT:
                reason = f"at a threshold of {threshold:g} softplus is not the identity"
            elif x.dtype not in (ir.DataType.FLOAT, ir.DataType.FLOAT16):
                reason = f"in {x.dtype} softplus is not the identity beyond the threshold"
            if reason is not None:
                yield NearMiss(node.name or "Where", reason)
                continue
            make, old = Nodes(node.name or "softplus"), node.outputs[0]
            y = make.op("Softplus", [x], "softplus", like=old)
            yield Edit("Softplus", remove=[node, greater, softplus], insert=make.nodes, replace={old: y})
