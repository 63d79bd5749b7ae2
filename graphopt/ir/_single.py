"""A model of half precision in single precision: what it would compute if nothing were rounded to 16 bits."""

from __future__ import annotations

import onnx_ir as ir

from graphopt.ir._operations import Cast
from graphopt.ir._tensor import LazyTensor, lazy
from graphopt.ir._walk import all_graphs

__all__ = ["HALF", "in_single"]

HALF = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
_NAMES_A_TYPE = ("to", "dtype", "output_dtype", "stash_type")


def in_single(model: ir.Model) -> bool:
    """Make every float16 and bfloat16 of `model` a float32, in place; whether there was any.

    Weights keep their values, and casts to 16 bits round no more.
    """
    changed = False
    for graph in all_graphs(model):
        held = list(graph.initializers.values()) if isinstance(graph, ir.Graph) else []
        for value in (*graph.inputs, *held, *(output for node in graph for output in node.outputs)):
            if value.const_value is not None and value.const_value.dtype in HALF:
                value.const_value = _widened(value.const_value)
                changed = True
            if value.type is not None and (single := _single(value.type)) is not value.type:
                value.type = single
                changed = True
        for node in graph:
            for name, attribute in tuple(node.attributes.items()):
                if (wide := _attribute(name, attribute)) is not None:
                    node.attributes[name] = wide
                    changed = True
    return changed


def _widened(tensor: ir.TensorProtocol) -> LazyTensor:
    return LazyTensor(Cast(lazy(tensor), ir.DataType.FLOAT), name=tensor.name)


def _single(kind: ir.TypeProtocol) -> ir.TypeProtocol:
    if isinstance(kind, ir.SequenceType | ir.OptionalType):
        inner = _single(kind.elem_type)
        return kind if inner is kind.elem_type else type(kind)(inner)
    return ir.TensorType(ir.DataType.FLOAT) if kind.dtype in HALF else kind


def _attribute(name: str, attribute: ir.Attr) -> ir.Attr | None:
    if attribute.is_ref():
        return None
    if attribute.type == ir.AttributeType.TENSOR and attribute.as_tensor().dtype in HALF:
        return ir.AttrTensor(name, _widened(attribute.as_tensor()))
    if attribute.type == ir.AttributeType.INT and name in _NAMES_A_TYPE and attribute.as_int() in HALF:
        return ir.AttrInt64(name, ir.DataType.FLOAT)
    return None
