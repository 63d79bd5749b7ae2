"""upgrade: an older file is brought to the canonical opset, or as near to it as its target has kernels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from graphopt.ir import infer_types
from graphopt.pipeline import Context, Contract, Edits, Level, NearMiss, OpsetRange, Outcome, Pass

from ._convert import CannotConvert, convert, transplant


class Upgrade(Pass):
    """A graph of an older opset, rewritten for a newer one by onnx's own version converter.

    Before: a graph at any opset below 23
    After:  the same graph at opset 23; where that cannot be, at the highest opset below
    Weights are not read: the converter sees a copy without them. Kernels for newer forms may add up in
    another order, as those of AveragePool do from opset 19 on. Where the target has fast kernels for older
    forms alone, a graph without attention goes no further than these.
    Refuses: an opset that the converter cannot convert to, at which the target lacks a kernel that it has
    now or leaves its node to another provider, or at which results are found to differ; graphs with
    model-local functions.
    """

    name: ClassVar[str] = "upgrade"
    level: ClassVar[Level] = Level.UPGRADE
    contract: ClassVar[Contract] = Contract.reassociates()
    opsets: ClassVar[OpsetRange] = OpsetRange(1, None)
    main_graph_only: ClassVar[bool] = True

    @dataclass(frozen=True)
    class Options:
        """opset: the version of the default operator set to arrive at."""

        opset: int = 23

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        if context.opset >= self.options.opset:
            return
        if context.model.functions:
            reason = "the model has local functions, which the version converter does not convert"
            yield NearMiss("graph", reason)
            context.note(f"The graph stays at opset {context.opset}: {reason}.")
            return
        first = context.opset
        reasons: list[str] = []
        top = self.options.opset
        for op_type, last in _fast_until(graph, context).items():
            if first <= last < top:
                top = last
                reasons.append(f"from opset {last + 1} on {op_type} takes the target several times as long")
        refused = top + 1
        while context.opset < top and (made := _highest(context, top, reasons)) is not None:
            opset = made.opset_imports[""]
            outcome = yield transplant(graph, made)
            if outcome is Outcome.REFUSED:
                return
            if outcome is Outcome.ROLLED_BACK:
                reasons.append(f"the graph that the converter made for opset {opset} gives other results")
                refused = opset
            elif top == refused - 1:
                break
            top = (context.opset + refused) // 2
        for reason in reasons:
            yield NearMiss("graph", reason)
        if reasons:
            moved = "goes up to" if context.opset > first else "stays at"
            left_out = "and passes for newer ones are left out"
            context.note(f"The graph {moved} opset {context.opset}, {left_out}: {reasons[0]}.")


def _fast_until(graph: ir.Graph, context: Context) -> dict[str, int]:
    """Operators of the graph with the last opset at which they are fast; none where attention is raised,
    which needs the newest opset and gains more.
    """
    types = {node.op_type for node in graph.all_nodes() if not node.domain}
    if context.target is None or "Softmax" in types:
        return {}
    capabilities = context.target.capabilities()
    return {kind: last for kind in sorted(types) if (last := capabilities.fast_until(kind)) is not None}


def _highest(context: Context, top: int, reasons: list[str]) -> ir.Model | None:
    """The graph at the highest opset up to `top` that it can be converted to and that the target runs."""
    for opset in range(top, context.opset, -1):
        try:
            made = convert(context.model, opset)
        except CannotConvert as error:
            reasons.append(f"at opset {opset}, {error}")
            continue
        lacking = _lacking(context, made)
        if lacking is None:
            return made
        reasons.append(f"at opset {opset}, target {lacking}")
    return None


def _lacking(context: Context, made: ir.Model) -> str | None:
    """What the target can run, by itself, as it is in the model, but not as it is in `made`."""
    if context.target is None:
        return None
    capabilities = context.target.capabilities()
    infer_types(made)
    asked = {"cannot run": capabilities.unsupported, "leaves to others": capabilities.left_to_others}
    for verb, ask in asked.items():
        found = ask(made)
        before = {node.operator for node in ask(context.model)} if found else ()
        first = next((node for node in found if node.operator not in before), None)
        if first is not None:
            return f"{context.target.name!r} {verb} {first}"
    return None
