"""Filling in the types and shapes that nobody wrote down."""

from __future__ import annotations

from math import prod

import onnx
import onnx_ir as ir

from graphopt.ir._proto import to_proto

__all__ = ["infer_types"]


_LONGEST = 1 << 20


def infer_types(model: ir.Model) -> None:
    """Give every value of the main graph that lacks a dtype or shape the one onnx infers for it.

    What is there already stays. Values of operators that onnx does not know stay without.
    """
    lacking = {
        output.name: output
        for node in model.graph
        for output in node.outputs
        if output.name and (output.dtype is None or output.shape is None)
    }
    if not lacking:
        return
    proto = to_proto(model, weights="none")
    inferred = onnx.shape_inference.infer_shapes(proto)
    if not any(_is_long(info) for info in inferred.graph.value_info):
        inferred = onnx.shape_inference.infer_shapes(proto, data_prop=True)
    for info in inferred.graph.value_info:
        value = lacking.get(info.name)
        if value is None or not info.type.HasField("tensor_type"):
            continue
        known = ir.from_proto(info)
        if value.dtype is None and known.type is not None:
            value.type = known.type
        if value.shape is None and known.shape is not None:
            value.shape = known.shape


def _is_long(info: onnx.ValueInfoProto) -> bool:
    """Whether following its values, as data propagation would, takes much memory."""
    shape = info.type.tensor_type.shape
    return prod(dim.dim_value or 1 for dim in shape.dim) > _LONGEST and len(shape.dim) < 2
