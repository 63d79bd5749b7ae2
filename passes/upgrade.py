"""upgrade: an older file is brought to the canonical opset."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx
import onnx.version_converter
import onnx_ir as ir

from graphopt.ir import to_proto
from graphopt.pipeline import Context, Contract, Edit, Edits, Level, NearMiss, OpsetRange, Pass


class Upgrade(Pass):
    """A graph of an older opset, rewritten for the canonical one by onnx's own version converter.

    Before: a graph at opset 13..22
    After:  the same graph at opset 23; weights are not read, the converter sees a copy without them
    Refuses: what the converter cannot convert (its message is kept); graphs with model-local functions.
    """

    name: ClassVar[str] = "upgrade"
    level: ClassVar[Level] = Level.UPGRADE
    contract: ClassVar[Contract] = Contract.exact()
    opsets: ClassVar[OpsetRange] = OpsetRange(13, None)
    main_graph_only: ClassVar[bool] = True

    @dataclass(frozen=True)
    class Options:
        """opset: the version of the default operator set to arrive at."""

        opset: int = 23

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        wanted = self.options.opset
        if context.opset >= wanted:
            return
        if context.model.functions:
            reason = "the model has local functions, which the version converter does not convert"
            yield NearMiss("graph", reason)
            context.note(f"The graph stays at opset {context.opset}: {reason}.")
            return
        try:
            converted = onnx.version_converter.convert_version(
                to_proto(context.model, weights="none"), wanted
            )
            new = ir.from_proto(converted).graph
        except Exception as error:
            yield NearMiss(
                "graph", f"onnx's converter cannot bring opset {context.opset} to {wanted}: {error}"
            )
            context.note(f"The graph stays at opset {context.opset}: onnx's converter refused it ({error}).")
            return
        yield _transplant(graph, new, wanted)


def _transplant(graph: ir.Graph, new: ir.Graph, opset: int) -> Edit:
    """One edit that puts the nodes of `new` in the place of those of `graph`, on its inputs and weights."""
    nodes = list(new)
    own = {value.name: value for value in (*graph.inputs, *graph.initializers.values())}
    theirs = (*new.inputs, *new.initializers.values())
    fresh = [value for value in new.initializers.values() if value.name not in own]
    outputs = {value.name: value for value in new.outputs}
    new.outputs.clear()
    for value in theirs:
        if value.name in own:
            for user, index in tuple(value.uses()):
                user.replace_input_with(index, own[value.name])
    for value in fresh:
        del new.initializers[value.name]  # type: ignore[arg-type]
    new.remove(nodes)
    return Edit(
        f"opset {opset}",
        remove=list(graph),
        insert=nodes,
        initializers=fresh,
        replace={old: outputs[old.name] for old in graph.outputs},
        opset=opset,
    )
