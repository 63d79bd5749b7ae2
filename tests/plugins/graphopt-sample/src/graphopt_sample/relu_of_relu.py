"""relu-of-relu: the outer of two goes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from graphopt.ir import is_output, producer
from graphopt.pipeline import Context, Contract, Edit, Edits, Level, NearMiss, Pass


class ReluOfRelu(Pass):
    """A Relu of a Relu is that Relu.

    Before: y = Relu(Relu(x))
    After:  Relu(x)
    Refuses: a y that is an output; an inner Relu that is one; more than `most` in one graph.
    """

    name: ClassVar[str] = "relu-of-relu"
    level: ClassVar[Level] = Level.IMPROVE
    contract: ClassVar[Contract] = Contract.exact()

    @dataclass(frozen=True)
    class Options:
        """most: how many to remove from a graph."""

        most: int = 100

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        removed = 0
        for node in graph:
            inner = producer(node.inputs[0], "Relu") if node.op_type == "Relu" and node.domain == "" else None
            if inner is None:
                continue
            y, x = node.outputs[0], inner.outputs[0]
            if is_output(y) or is_output(x):
                yield NearMiss(node.name or "Relu", "one of the two is an output")
            elif removed == self.options.most:
                yield NearMiss(node.name or "Relu", f"{removed} were removed already")
            else:
                removed += 1
                yield Edit("Relu of Relu", remove=[node], replace={y: x})
