"""lower-opset: a graph says an older opset, where its nodes mean the same and have kernels."""

from __future__ import annotations

from typing import ClassVar

import onnx_ir as ir

from graphopt.ir import checker_problems
from graphopt.pipeline import Context, Contract, Edits, Level, NearMiss, OpsetRange, Pass

from ._convert import transplant
from ._opsets import OLDEST, Left, at_opset, is_another, left_at


class LowerOpset(Pass):
    """A graph is declared at the opset whose forms of its operators the target has kernels for.

    Before: a graph at opset 23, of whose nodes the target leaves some to another provider
    After:  the same nodes at an older opset, at which it leaves fewer; the newest of these
    Newer forms of operators often add types alone, and onnxruntime's kernels are for forms. Without a target
    it is opset 18, or as near to it as may be. Nodes are not touched: attributes, inputs, outputs and the
    types that are in the graph have to be those of the older form.
    Refuses: a node whose form at that opset is another.
    """

    name: ClassVar[str] = "lower-opset"
    level: ClassVar[Level] = Level.LOWER
    contract: ClassVar[Contract] = Contract.exact()
    opsets: ClassVar[OpsetRange] = OpsetRange(OLDEST, None)
    main_graph_only: ClassVar[bool] = True

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        now = context.opset
        least = _cost(context, context.model)
        best: ir.Model | None = None
        for opset in range(now - 1, OLDEST - 1, -1):
            if least == Left(0, 0):
                break
            nodes = (node for node in graph.all_nodes() if not node.domain)
            other = next((node for node in nodes if is_another(node.op_type, now, opset)), None)
            if other is not None:
                yield NearMiss(other.name or other.op_type, f"at opset {opset} it is another operator")
                break
            made = at_opset(context.model, opset)
            if _cost(context, made) < least and not checker_problems(made):
                best, least = made, _cost(context, made)
        if best is not None:
            yield transplant(graph, best)


def _cost(context: Context, model: ir.Model) -> Left:
    """What the target leaves to others; without a target, the opset itself."""
    return Left(model.opset_imports[""], 0) if context.target is None else left_at(context, model)
