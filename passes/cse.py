"""cse: the same value computed twice is computed once."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Hashable
from typing import ClassVar

import onnx_ir as ir

from graphopt.ir import attribute_proto, const_of, is_random, subgraphs_of
from graphopt.pipeline import Context, Contract, Edit, Edits, Level, NearMiss, OpsetRange, Pass, Proof


class CommonSubexpressions(Pass):
    """A node that repeats an earlier one (same operator, attributes and inputs) gives way to it.

    Before: a = Shape(x); b = Shape(x); y = Concat(a, b)
    After:  a = Shape(x); y = Concat(a, a)
    Inside a subgraph (If, Loop, Scan), nodes of the enclosing graphs that come earlier count too; small
    constant inputs are compared by content.
    Refuses: what draws random numbers, also inside a function; nodes with subgraphs; two values that are
    both outputs.
    """

    name: ClassVar[str] = "cse"
    level: ClassVar[Level] = Level.IMPROVE
    contract: ClassVar[Contract] = Contract.exact()
    opsets: ClassVar[OpsetRange] = OpsetRange(7, None)
    main_graph_only: ClassVar[bool] = True

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        yield from self._scope(graph, ChainMap(), context.model)

    def _scope(self, graph: ir.Graph, seen: ChainMap[Hashable, ir.Node], model: ir.Model) -> Edits:
        for node in graph:
            subgraphs = tuple(subgraphs_of(node))
            for subgraph in subgraphs:
                yield from self._scope(subgraph, seen.new_child(), model)
            if subgraphs:
                continue
            earlier = seen.setdefault(_key(node), node)
            if earlier is node:
                continue
            reason = _reason(node, earlier, model)
            if reason is not None:
                yield NearMiss(node.name or node.op_type, reason)
                continue
            yield Edit(
                f"{node.op_type} repeats {earlier.name}",
                remove=[node],
                replace=dict(zip(node.outputs, earlier.outputs, strict=True)),
                proof=Proof.DUPLICATE,
            )


def _reason(node: ir.Node, earlier: ir.Node, model: ir.Model) -> str | None:
    """Why `node` stays, which repeats `earlier`."""
    if is_random(node, model):
        return "it draws random numbers, other ones than the node it repeats"
    for old, new in zip(node.outputs, earlier.outputs, strict=True):
        if old.is_graph_output() and (new.is_graph_output() or new.graph is not old.graph):
            return f"{old.name!r} is an output, as {new.name!r} is, or of another graph"
    return None


def _key(node: ir.Node) -> Hashable:
    attributes = tuple(
        sorted(
            (name, str(a.type), attribute_proto(a).SerializeToString()) for name, a in node.attributes.items()
        )
    )
    return (
        node.op_identifier(),
        len(node.outputs),
        attributes,
        tuple(_input_key(value) for value in node.inputs),
    )


def _input_key(value: ir.Value | None) -> Hashable:
    if value is None:
        return None
    array = const_of(value) if value.is_initializer() and not value.is_graph_input() else None
    if array is None or array.nbytes > 1024:
        return id(value)
    return (str(array.dtype), array.shape, array.tobytes())
