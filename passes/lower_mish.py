"""lower-mish: Mish in terms of one exponential, for runtimes without a kernel for it."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import onnx_ir as ir

from graphopt.pipeline import Context, Contract, Edit, Edits, Level, NearMiss, Nodes, OpsetRange, Pass

_LARGEST = 20.0  # n = exp(40) there, so that n / (n + 2) is 1 in float32, and n is far from overflowing


class LowerMish(Pass):
    """Mish is computed from an exponential instead of a logarithm and a hyperbolic tangent of one.

    Before: Mish(x)
    After:  x * n / (n + 2), n = e (e + 2), e = exp(min(x, 20)): tanh(log(1 + e)) = n / (n + 2)
    onnxruntime has no kernel for Mish on processors and computes Softplus and Tanh, which take longer.
    Refuses: an x of another type than float32.
    """

    name: ClassVar[str] = "lower-mish"
    level: ClassVar[Level] = Level.LOWER
    contract: ClassVar[Contract] = Contract.reassociates()
    opsets: ClassVar[OpsetRange] = OpsetRange(18, None)

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        numbers: dict[str, ir.Value] = {}
        for node in graph:
            if node.domain != "" or node.op_type != "Mish":
                continue
            x, old = node.inputs[0], node.outputs[0]
            if x is None or x.dtype != ir.DataType.FLOAT:
                yield NearMiss(node.name or "Mish", "it is not of float32")
                continue
            make = Nodes(node.name or "mish")
            for name, number in (("most", _LARGEST), ("two", 2.0)):
                if name not in numbers or numbers[name].graph is not graph:
                    numbers[name] = make.constant(number, np.float32, name)
            most, two = numbers["most"], numbers["two"]
            low = make.op("Min", [x, most], "low", like=old)
            e = make.op("Exp", [low], "exp", like=old)
            more = make.op("Add", [e, two], "more", like=old)
            n = make.op("Mul", [e, more], "n", like=old)
            below = make.op("Add", [n, two], "below", like=old)
            gate = make.op("Div", [n, below], "gate", like=old)
            y = make.op("Mul", [x, gate], "mish", like=old)
            yield Edit(
                "Mish by one exponential",
                remove=[node],
                insert=make.nodes,
                initializers=make.initializers,
                replace={old: y},
            )
