"""Products that stay in floats between integers, and stay so once a runtime has loaded them."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from graphopt.ir import const_of, node_name, only_user, producer
from graphopt.pipeline import Edit, Nodes

__all__ = ["is_rounded_at_load", "kept_in_floats"]

_ROUNDED = ("Conv", "ConvTranspose", "Gemm")


def is_rounded_at_load(node: ir.Node) -> bool:
    """Whether onnxruntime takes the product for one whose weight somebody forgot to round, and rounds it.

    That is a product of integers that are widened by one scale, and a constant of float32, whose result is
    rounded, by way of Relu and Clip at most (its WeightBiasQuantization): it gets int8 with one scale for all
    outputs.
    """
    weight = node.inputs[1] if len(node.inputs) > 1 else None
    if node.domain or node.op_type not in _ROUNDED or weight is None or not weight.is_initializer():
        return False
    widened = producer(node.inputs[0], "DequantizeLinear")
    if widened is None or widened.inputs[1] is None or _size(widened.inputs[1]) != 1:
        return False
    after = only_user(node.outputs[0])
    while after is not None and after.op_type in ("Relu", "Clip"):
        after = only_user(after.outputs[0])
    return after is not None and after.op_type == "QuantizeLinear"


def kept_in_floats(node: ir.Node) -> Edit:
    """The same, its input widened by a scale for each channel, all of them alike: what is rounded has one."""
    new, y = Nodes(node_name(node)), node.outputs[0]
    widened, weight = producer(node.inputs[0], "DequantizeLinear"), node.inputs[1]
    assert widened is not None
    assert weight is not None
    assert weight.shape is not None
    integers, *parameters = widened.inputs
    assert integers is not None
    channels = _channels(node, weight.shape.numpy())
    each = [
        new.constant(np.full(channels, array.reshape(())), array.dtype, name)
        for value, name in zip(parameters, ("scales", "zeros"), strict=False)
        if (array := const_of(value)) is not None
    ]
    x = new.op("DequantizeLinear", [integers, *each], "floats", like=widened.outputs[0], axis=1)
    made = new.copy(node, [x, *node.inputs[1:]], "kept")
    return Edit(
        f"{node.op_type} stays in floats when it is loaded",
        remove=[node],
        insert=new.nodes,
        initializers=new.initializers,
        replace={y: made[0]},
        before=node,
    )


def _channels(node: ir.Node, weight: tuple[int, ...]) -> int:
    """Those of the input of a product."""
    if node.op_type == "Conv":
        return weight[1] * node.attributes.get_int("group", 1)
    return weight[1] if node.attributes.get_int("transB", 0) else weight[0]


def _size(value: ir.Value) -> int | None:
    array = const_of(value)
    return None if array is None else int(array.size)
