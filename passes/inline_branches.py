"""inline-branches: of an If whose condition is a constant, the branch that is taken stays."""

from __future__ import annotations

from typing import ClassVar

import onnx_ir as ir

from graphopt.ir import const_of, node_name
from graphopt.pipeline import Context, Contract, Edit, Edits, Level, NearMiss, OpsetRange, Outcome, Pass

from ._bodies import body_of, passed


class InlineBranches(Pass):
    """The nodes of a branch take the place of the If.

    Before: y = If(true) <then_branch = {Relu(x)}, else_branch = {Neg(x)}>
    After:  y = Relu(x)
    Refuses: a condition that is computed, or an input's default, which a caller may change.
    """

    name: ClassVar[str] = "inline-branches"
    level: ClassVar[Level] = Level.IMPROVE
    contract: ClassVar[Contract] = Contract.exact()
    opsets: ClassVar[OpsetRange] = OpsetRange(7, None)

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        waiting = [node for node in graph if (node.domain, node.op_type) == ("", "If")]
        while waiting:
            node = waiting.pop(0)
            condition = const_of(node.inputs[0])
            if condition is None or condition.size != 1:
                yield NearMiss(node_name(node), "its condition is computed, or an input's default")
                continue
            taken = "then_branch" if condition.all() else "else_branch"
            body = body_of(node.attributes[taken].as_graph(), [], node_name(node))
            replace = passed(body, node.outputs)
            edit = Edit(taken, [node], body.nodes, replace, initializers=body.initializers)
            if (yield edit) is Outcome.APPLIED:
                waiting += [inner for inner in body.nodes if (inner.domain, inner.op_type) == ("", "If")]
