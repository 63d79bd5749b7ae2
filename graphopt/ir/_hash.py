"""A digest of what a graph computes, blind to the names of inner values."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import onnx_ir as ir

from graphopt.ir._defaults import default_attributes
from graphopt.ir._proto import attribute_proto
from graphopt.ir._tensor import lazy

__all__ = ["graph_hash", "node_signature"]


def graph_hash(model: ir.Model | ir.Graph) -> str:
    """SHA-256, in hex, over interface, opsets, nodes and weights.

    Names of inputs and outputs count, and so do their dtypes and shapes; names of nodes and inner values do
    not. Weights count by the identity of their expression (file, range and chain) or, where they are held, by
    content: nothing is read from disk, and the same weights in another file hash differently. The order of
    nodes that do not depend on each other does not matter; nodes that nothing depends on count.
    """
    graph = model.graph if isinstance(model, ir.Model) else model
    names: dict[ir.Value, str] = {}
    parts = [str(sorted(graph.opset_imports.items())), _graph(graph, names)]
    if isinstance(model, ir.Model):
        parts += sorted(_function(function) for function in model.functions.values())
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def node_signature(node: ir.Node) -> str:
    """Equal for nodes of one operator, with equal attributes and the same optional outputs in use.

    An attribute that is what it is by default is as good as none. Values that a subgraph takes from around it
    do not count.
    """
    version = 1 if node.graph is None else node.graph.opset_imports.get(node.domain, 1)
    known = default_attributes(node.domain, node.op_type, version)
    attributes = [
        (name, _attribute(a, {}))
        for name, a in sorted(node.attributes.items())
        if name not in known or a.is_ref() or _serialized(a) != known[name]
    ]
    return _digest(node.op_identifier(), attributes, [bool(output.name) for output in node.outputs])


def _serialized(attribute: ir.Attr) -> bytes:
    serialized: bytes = attribute_proto(attribute).SerializeToString(deterministic=True)
    return serialized


def _function(function: ir.Function) -> str:
    names = {value: _digest("input", index) for index, value in enumerate(function.inputs)}
    defaults = [(name, _attribute(a, names)) for name, a in sorted(function.attributes.items())]
    keys = _nodes(function, names)
    outputs = [names.get(value, "?") for value in function.outputs]
    opsets = sorted(function.opset_imports.items())
    return _digest(function.identifier(), len(function.inputs), defaults, opsets, sorted(keys), outputs)


def _graph(graph: ir.Graph, names: dict[ir.Value, str]) -> str:
    for value in graph.inputs:
        names[value] = _digest("input", *_interface(value))
    for value in graph.initializers.values():
        tensor = value.const_value
        content = "none" if tensor is None else lazy(tensor).identity
        names[value] = _digest("weight", value.name if value.is_graph_input() else "", content)
    keys = _nodes(graph, names)
    inputs = [names[value] for value in graph.inputs]
    outputs = [(names.get(value, "?"), *_interface(value)) for value in graph.outputs]
    weights = sorted(names[value] for value in graph.initializers.values())
    return _digest(inputs, sorted(keys), outputs, weights)


def _interface(value: ir.Value) -> tuple[str, str, str]:
    return (value.name or "", str(value.type), str(value.shape))


def _nodes(nodes: Iterable[ir.Node], names: dict[ir.Value, str]) -> list[str]:
    keys = []
    for node in nodes:
        inputs = ["" if value is None else names.get(value, "?") for value in node.inputs]
        attributes = [(name, _attribute(a, names)) for name, a in sorted(node.attributes.items())]
        used = [bool(output.name) for output in node.outputs]
        key = _digest(node.op_identifier(), attributes, inputs, used)
        keys.append(key)
        for index, output in enumerate(node.outputs):
            names[output] = f"{key} {index}"
    return keys


def _attribute(attribute: ir.Attr, names: dict[ir.Value, str]) -> str:
    if attribute.is_ref():
        return f"ref {attribute.ref_attr_name}"
    match attribute.type:
        case ir.AttributeType.GRAPH:
            return _graph(attribute.as_graph(), names)
        case ir.AttributeType.GRAPHS:
            return str([_graph(graph, names) for graph in attribute.as_graphs()])
        case ir.AttributeType.TENSOR:
            return str(lazy(attribute.as_tensor()).identity)
        case ir.AttributeType.TENSORS:
            return str([lazy(tensor).identity for tensor in attribute.as_tensors()])
        case _:
            return f"{attribute.type} {attribute.value!r}"


def _digest(*parts: object) -> str:
    return hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()
