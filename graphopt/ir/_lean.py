"""A model file without what its reader finds again."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator

import onnx
import onnx_ir as ir

from graphopt.ir._defaults import default_attributes
from graphopt.ir._infer import MADE_UP
from graphopt.ir._walk import graph_protos

__all__ = ["lean", "made_up_names"]


def lean(proto: onnx.ModelProto) -> onnx.ModelProto:
    """`proto`, less what a reader finds again: names that `made_up_names` gives, attributes that are what
    their operator has without them, types of weights, and types that onnx infers.
    """
    functions = {(function.domain, function.name) for function in proto.functions}
    _forget_types(proto, functions)
    version = next((entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")), 1)
    for holder in (proto, *proto.functions):
        for entry in holder.opset_import:
            if not entry.domain:
                entry.ClearField("domain")
    for node, name in zip(_nodes(proto.graph), made_up_names(_nodes(proto.graph)), strict=True):
        if node.name == name:
            node.ClearField("name")
        _forget_defaults(node, version)
    return proto


def made_up_names(nodes: Iterable[onnx.NodeProto | ir.Node]) -> Iterator[str]:
    """What nodes without names are called, by their places among all of a model's."""
    return (f"{node.op_type}_{number}" for number, node in enumerate(nodes))


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Nodes of `graph`, each followed by those of its subgraphs."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else ()), *attribute.graphs):
                yield from _nodes(inner)


def _forget_defaults(node: onnx.NodeProto, version: int) -> None:
    if node.domain in ("", "ai.onnx"):
        known = default_attributes("", node.op_type, version)
        kept = [a for a in node.attribute if known.get(a.name) != a.SerializeToString(deterministic=True)]
        if len(kept) < len(node.attribute):
            del node.attribute[:]
            node.attribute.extend(kept)


def _forget_types(proto: onnx.ModelProto, functions: Container[tuple[str, str]]) -> None:
    bare = onnx.ModelProto()
    bare.CopyFrom(proto)
    graphs = [*graph_protos(bare.graph)]
    own = {
        name
        for graph in graphs
        for node in graph.node
        if node.domain not in ("", "ai.onnx") and (node.domain, node.op_type) not in functions
        for name in node.output
    }
    for graph in graphs:
        _keep_types(graph, own)
    inferred = onnx.shape_inference.infer_shapes(bare)
    for graph, told in zip(graph_protos(proto.graph), graph_protos(inferred.graph), strict=True):
        types = {value.name: value.type for value in told.value_info}
        weights = {tensor.name for tensor in graph.initializer}
        again = {v.name for v in graph.value_info if v.name in types and _is_told(v.type, types[v.name])}
        _keep_types(graph, {v.name for v in graph.value_info} - weights - (again - own))


def _keep_types(graph: onnx.GraphProto, names: set[str]) -> None:
    kept = [value for value in graph.value_info if value.name in names]
    del graph.value_info[:]
    graph.value_info.extend(kept)


def _is_told(known: onnx.TypeProto, inferred: onnx.TypeProto) -> bool:
    """Whether `inferred` says all that is known, made-up names of sizes aside."""
    ours, theirs = known.tensor_type, inferred.tensor_type
    if not known.HasField("tensor_type") or ours.elem_type != theirs.elem_type:
        return False
    if not ours.HasField("shape"):
        return True
    pairs = zip(ours.shape.dim, theirs.shape.dim, strict=False)
    return len(ours.shape.dim) == len(theirs.shape.dim) and all(a == b or _says_nothing(a) for a, b in pairs)


def _says_nothing(dim: onnx.TensorShapeProto.Dimension) -> bool:
    return not dim.HasField("dim_value") and (not dim.dim_param or dim.dim_param.startswith(MADE_UP))
