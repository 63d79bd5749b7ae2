"""A digest of what a graph computes, blind to the names of inner values."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable

import onnx_ir as ir

from graphopt.ir._lazy import LazyTensor, lazy

__all__ = ["graph_hash"]

_memo_limit = 4096


def graph_hash(model: ir.Model) -> str:
    """SHA-256 over interface, nodes (by content of their inputs), opsets and weights.

    Weights count by their lazy identity, or by content where they are held. The order of nodes that do not
    depend on each other does not matter; nodes that no output depends on do.
    """
    parts: list[str] = [str(sorted(model.opset_imports.items()))]
    names: dict[int, str] = {}
    parts.append(_graph(model.graph, names))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _graph(graph: ir.Graph, names: dict[int, str]) -> str:
    for value in graph.inputs:
        names[id(value)] = _digest("input", value.name, str(value.dtype), str(value.shape))
    for value in graph.initializers.values():
        names[id(value)] = _digest("weight", value.name if value.is_graph_input() else "", _weight(value))
    keys = []
    for node in graph:
        key = _node(node, names)
        keys.append(key)
        for index, output in enumerate(node.outputs):
            names[id(output)] = _digest(key, index)
    outputs = [(v.name, names.get(id(v), "?"), str(v.dtype), str(v.shape)) for v in graph.outputs]
    weights = sorted(names[id(v)] for v in graph.initializers.values())
    return _digest([names[id(v)] for v in graph.inputs], sorted(keys), outputs, weights)


def _weight(value: ir.Value) -> Hashable:
    tensor = value.const_value
    if tensor is None:
        return "none"
    if isinstance(tensor, LazyTensor):
        return repr(tensor.identity)
    if tensor.dtype == ir.DataType.STRING:
        return repr(tensor.numpy().tolist())
    return repr(lazy(tensor).identity)


def _node(node: ir.Node, names: dict[int, str]) -> str:
    attributes = []
    for name, attribute in sorted(node.attributes.items()):
        if attribute.type == ir.AttributeType.GRAPH:
            attributes.append((name, _graph(attribute.as_graph(), names)))
        elif attribute.type == ir.AttributeType.GRAPHS:
            attributes.append((name, str([_graph(g, names) for g in attribute.as_graphs()])))
        elif attribute.type == ir.AttributeType.TENSOR:
            tensor = attribute.as_tensor()
            attributes.append((name, f"{tensor.dtype}{list(tensor.shape)}{tensor.numpy().tolist()}"))
        else:
            attributes.append((name, repr(attribute.value)))
    inputs = ["" if v is None else names.get(id(v), "?") for v in node.inputs]
    return _digest(node.op_identifier(), attributes, inputs, len(node.outputs))


def _digest(*parts: object) -> str:
    return hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()
