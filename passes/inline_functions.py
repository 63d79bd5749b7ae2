"""inline-functions: what a model-local function computes is written where it is called."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from graphopt.ir import node_name
from graphopt.pipeline import (
    Context,
    Contract,
    Edit,
    Edits,
    Level,
    NearMiss,
    OpsetRange,
    Outcome,
    Pass,
    weight_bytes,
)

from ._bodies import body_of, passed


class InlineFunctions(Pass):
    """The nodes of a function take the place of its call, so that every other pass sees them.

    Before: y = local.Block(x, w), where Block is a function of the model
    After:  y = MatMul(Relu(x), w)
    Functions that nothing calls any more go with the pass. Runtimes do the same when they open a model.
    Refuses: a function for another opset than the model's; functions whose nodes, written at each call, take
    more bytes than the options allow: a call is short, and runtimes write them out by themselves.
    """

    name: ClassVar[str] = "inline-functions"
    level: ClassVar[Level] = Level.UPGRADE
    contract: ClassVar[Contract] = Contract.exact()
    opsets: ClassVar[OpsetRange] = OpsetRange(1, None)

    @dataclass(frozen=True)
    class Options:
        """share: of the weights' bytes, what the file may grow by, before other passes shrink it."""

        share: float = 0.05

    options: Options

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        functions = context.model.functions
        growth, room = _growth(context.model), self.options.share * weight_bytes(context.model)
        if functions and growth > room:
            yield NearMiss("graph", f"it would grow by {growth:,} bytes, of {room:,.0f} that are allowed")
            return
        waiting = [node for node in graph if node.op_identifier() in functions]
        while waiting:
            node = waiting.pop(0)
            function = functions[node.op_identifier()]
            version = function.opset_imports.get("")
            if version is not None and version != context.opset:
                yield NearMiss(
                    node_name(node), f"its function is for opset {version}, the model for {context.opset}"
                )
                continue
            attributes = {**function.attributes, **node.attributes}
            body = body_of(function, node.inputs, node_name(node), attributes)
            used = [(old, new) for old, new in zip(node.outputs, body.outputs, strict=False) if old.name]
            body.outputs[:] = [new for _, new in used]
            replace = passed(body, [old for old, _ in used])
            edit = Edit(f"function {function.name}", [node], body.nodes, replace)
            if (yield edit) is Outcome.APPLIED:
                waiting += [inner for inner in body.nodes if inner.op_identifier() in functions]


def _growth(model: ir.Model) -> int:
    """Bytes of nodes that the model has once all calls are written out, beyond those that it has."""
    written: dict[ir.OperatorIdentifier, int] = {}
    called = [node.op_identifier() for node in model.graph.all_nodes()]
    whole = sum(_written(name, model, written) for name in called if name in model.functions)
    return whole - sum(map(_bytes, model.functions.values()))


def _written(name: ir.OperatorIdentifier, model: ir.Model, known: dict[ir.OperatorIdentifier, int]) -> int:
    """Bytes of a function's nodes, those of functions that it calls among them."""
    if name not in known:
        function = model.functions[name]
        inner = [node.op_identifier() for node in function.all_nodes()]
        called = sum(_written(one, model, known) for one in inner if one in model.functions)
        known[name] = _bytes(function) + called
    return known[name]


def _bytes(function: ir.Function) -> int:
    return sum(len(ir.to_proto(node).SerializeToString()) for node in function)
