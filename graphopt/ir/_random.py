"""Which nodes draw random numbers: the one place that knows."""

from __future__ import annotations

import functools
from typing import Any

import onnx
import onnx_ir as ir

from graphopt.ir._graph import const_of
from graphopt.ir._walk import subgraphs_of
from graphopt.ir.operators import DRAWING, ONNXRUNTIME

__all__ = ["is_random"]

_DRAWS, _ASK, _NEVER = "draws", "ask", "never"
_TRAINING_MODE = 2  # the input of Dropout, from opset 12 on


def is_random(node: ir.Node, model: ir.Model) -> bool:
    """Whether `node` may give something else each time it is run on the same inputs.

    So does what draws random numbers (a `seed` starts a sequence, it does not make two runs the same), a
    Dropout that trains or may, and what holds such a node in a subgraph or in the body of a function,
    `model`'s own or onnx's. Which operators draw is asked of their schemas (`node_determinism`); one that has
    none is taken to draw nothing.
    """
    local = model.functions.get(node.op_identifier())
    if local is not None:
        return any(is_random(inner, model) for inner in local)
    if node.domain == "" and node.op_type == "Dropout":
        return _trains(node)
    kind = _kind(node.domain, node.op_type)
    return kind == _DRAWS or (
        kind == _ASK and any(is_random(inner, model) for graph in subgraphs_of(node) for inner in graph)
    )


def _trains(dropout: ir.Node) -> bool:
    if len(dropout.inputs) <= _TRAINING_MODE or dropout.inputs[_TRAINING_MODE] is None:
        return False
    training = const_of(dropout.inputs[_TRAINING_MODE])
    return training is None or bool(training.any())


@functools.cache
def _kind(domain: str, op_type: str) -> str:
    """`draws`, `never`, or `ask` the graphs that a node holds."""
    if domain in ONNXRUNTIME:  # onnx has no schemas of it
        return _DRAWS if op_type in DRAWING else _ASK
    try:
        schema: Any = onnx.defs.get_schema(op_type, domain)  # more than its stubs say
    except onnx.defs.SchemaError:
        return _ASK
    if schema.node_determinism != onnx.defs.OpSchema.NodeDeterminism.NonDeterministic:
        return _NEVER
    if any(a.type in _GRAPHS for a in schema.attributes.values()):
        return _ASK
    body = schema.function_body.node if schema.has_function else ()
    # AffineGrid counts as not deterministic for the If in its body.
    return _DRAWS if not body or any(_draws(inner) for inner in body) else _NEVER


_GRAPHS = (onnx.defs.OpSchema.AttrType.GRAPH, onnx.defs.OpSchema.AttrType.GRAPHS)


def _draws(node: onnx.NodeProto) -> bool:
    inner = (n for a in node.attribute for graph in (a.g, *a.graphs) for n in graph.node)
    return _kind(node.domain, node.op_type) == _DRAWS or any(map(_draws, inner))
