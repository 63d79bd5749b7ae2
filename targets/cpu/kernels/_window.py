"""Nodes that look at places beside each other, as our kernels are told of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ._known import OWN_DOMAIN, UINT8

if TYPE_CHECKING:
    import onnx

__all__ = ["become_ours", "describe", "says", "window"]


def says(node: onnx.NodeProto) -> dict[str, Any]:
    """The attributes of a node."""
    from onnx import helper

    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def window(said: Mapping[str, Any], kernel: Sequence[int]) -> dict[str, int]:
    """Our attributes for a kernel of [height, width] with those of ONNX."""
    strides, dilations = (said.get(name, [1, 1]) for name in ("strides", "dilations"))
    top, left, bottom, right = said.get("pads", [0, 0, 0, 0])
    numbers = {"pad_top": top, "pad_left": left, "pad_bottom": bottom, "pad_right": right}
    for name, pair in (("kernel", kernel), ("stride", strides), ("dilation", dilations)):
        numbers |= {f"{name}_height": pair[0], f"{name}_width": pair[1]}
    return numbers


def become_ours(node: onnx.NodeProto, op_type: str, attributes: Mapping[str, int | float]) -> None:
    """Make it that operator of our kernels, in place."""
    from onnx import helper

    node.op_type, node.domain = op_type, OWN_DOMAIN
    del node.attribute[:]
    node.attribute.extend(helper.make_attribute(name, value) for name, value in attributes.items())


def describe(node: onnx.NodeProto, graph: onnx.GraphProto, kind: int = UINT8) -> None:
    """Say that what `node` makes has four axes: from the shape of a result of unknown rank onnxruntime (1.32)
    infers sizes that are no sizes, and refuses a Resize to them.
    """
    from onnx import helper

    (name,) = node.output
    if all(value.name != name for value in (*graph.value_info, *graph.output)):
        graph.value_info.append(helper.make_tensor_value_info(name, kind, [None] * 4))
