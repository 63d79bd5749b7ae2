"""dead-code: what no output depends on goes."""

from __future__ import annotations

from typing import ClassVar

import onnx_ir as ir

from graphopt.pipeline import Context, Contract, Edit, Edits, Level, NearMiss, OpsetRange, Pass, Proof

_DEFAULT = "it is the default of an input, which is part of the interface"


class DeadCode(Pass):
    """Nodes and initializers that nothing uses are removed, last node first.

    Before: y = Add(a, b); z = Mul(a, b)      (z is no output and feeds nothing)
    After:  y = Add(a, b)
    Refuses: initializers that are also graph inputs (they are part of the interface).
    """

    name: ClassVar[str] = "dead-code"
    level: ClassVar[Level] = Level.IMPROVE
    contract: ClassVar[Contract] = Contract.exact()
    opsets: ClassVar[OpsetRange] = OpsetRange(7, None)

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        for node in reversed(tuple(graph)):
            if not any(output.uses() or output.is_graph_output() for output in node.outputs):
                yield Edit(f"unused {node.op_type}", remove=[node], proof=Proof.UNUSED)
        for value in tuple(graph.initializers.values()):
            if value.uses() or value.is_graph_output():
                continue
            if value.is_graph_input():
                yield NearMiss(value.name or "initializer", _DEFAULT)
            else:
                yield Edit(f"unused weight {value.name}", drop_initializers=[value], proof=Proof.UNUSED)
