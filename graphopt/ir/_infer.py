"""Filling in the types and shapes that nobody wrote down."""

from __future__ import annotations

from math import prod

import onnx
import onnx_ir as ir

from graphopt.ir._proto import to_proto

__all__ = ["MADE_UP", "infer_types"]

MADE_UP = "unk__"
"""What onnx's inference begins the names with that it gives to sizes it cannot tell."""
_LONGEST = 1 << 20
"""Elements of a vector from which data propagation is left out: it keeps each as a message of its own. A
judgement: shapes, which it is for, have a handful."""


def infer_types(model: ir.Model) -> None:
    """Give every value that lacks a dtype or shape, also in subgraphs, the one onnx infers for it.

    What is there already stays, but for sizes that an earlier inference only gave a name, where a number is
    found by now: constants were folded since. Values of operators that onnx does not know stay without.
    """
    if not any(_lacking(graph) for graph in (model.graph, *model.graph.subgraphs())):
        return
    proto = to_proto(model, weights="none")
    inferred = onnx.shape_inference.infer_shapes(proto)
    if not any(_is_long(info) for info in inferred.graph.value_info):
        inferred = onnx.shape_inference.infer_shapes(proto, data_prop=True)
    _complete(model.graph, inferred.graph)


def _lacking(graph: ir.Graph) -> dict[str, ir.Value]:
    return {
        output.name: output
        for node in graph
        for output in node.outputs
        if output.name and (output.dtype is None or output.shape is None or any(map(_is_named, output.shape)))
    }


def _complete(graph: ir.Graph, inferred: onnx.GraphProto) -> None:
    lacking = _lacking(graph)
    for info in (*inferred.value_info, *inferred.output):
        value = lacking.get(info.name)
        if value is None or not info.type.HasField("tensor_type"):
            continue
        known = ir.from_proto(info)
        if value.dtype is None and known.type is not None:
            value.type = known.type
        if known.shape is not None and (value.shape is None or len(value.shape) == len(known.shape)):
            value.shape = _completed(value.shape, known.shape)
    for node, proto in zip(graph, inferred.node, strict=True):
        for attribute in proto.attribute:
            held = node.attributes.get(attribute.name)
            if held is not None and held.type == ir.AttributeType.GRAPH:
                _complete(held.as_graph(), attribute.g)
            elif held is not None and held.type == ir.AttributeType.GRAPHS:
                for inner, its in zip(held.as_graphs(), attribute.graphs, strict=True):
                    _complete(inner, its)


def _completed(shape: ir.Shape | None, found: ir.Shape) -> ir.Shape:
    if shape is None:
        return found
    pairs = zip(shape, found, strict=True)
    return ir.Shape([new if _is_named(old) and isinstance(new, int) else old for old, new in pairs])


def _is_named(dim: int | ir.SymbolicDim) -> bool:
    """Whether all that is known of a size is the name that onnx gave it."""
    return isinstance(dim, ir.SymbolicDim) and dim.value is not None and dim.value.startswith(MADE_UP)


def _is_long(info: onnx.ValueInfoProto) -> bool:
    """Whether following its values, as data propagation would, takes much memory."""
    shape = info.type.tensor_type.shape
    return prod(dim.dim_value or 1 for dim in shape.dim) > _LONGEST and len(shape.dim) < 2
