"""Nodes and attributes that do not fit their operator."""

from __future__ import annotations

import numpy as np
from onnx import AttributeProto, GraphProto, ModelProto, TensorProto
from onnx.helper import (
    make_attribute,
    make_node,
    make_tensor_value_info,
)
from onnx.numpy_helper import from_array

from tests.hostile.files._build import Built, damaged, floats, legal, net, relu, unrunnable


def pooled(**attributes: object) -> ModelProto:
    return net(
        make_node("MaxPool", ["x"], ["y"], **attributes),
        inputs=[floats("x", 1, 1, 4, 4)],
        outputs=[floats("y", "a", "b", "c", "d")],
    )


@damaged
def attribute_that_is_missing() -> Built:
    return pooled()


@damaged
def attribute_of_the_wrong_type() -> Built:
    return pooled(kernel_shape="2x2")


@damaged
def attribute_that_is_unknown() -> Built:
    return pooled(kernel_shape=[2, 2], warp=9)


@damaged
def attribute_given_twice() -> Built:
    model = pooled(kernel_shape=[2, 2])
    model.graph.node[0].attribute.append(make_attribute("kernel_shape", [3, 3]))
    return model


@damaged
def attribute_without_a_type() -> Built:
    model = pooled(kernel_shape=[2, 2])
    model.graph.node[0].attribute[0].ClearField("type")
    return model


@damaged
def attribute_without_a_name() -> Built:
    model = relu()
    model.graph.node[0].attribute.append(AttributeProto(type=AttributeProto.INT, i=1))
    return model


@damaged
def attribute_that_says_int_and_holds_text() -> Built:
    attribute = AttributeProto(name="axis", type=AttributeProto.INT, s=b"one")
    node = make_node("Softmax", ["x"], ["y"])
    node.attribute.append(attribute)
    return net(node)


@damaged
def attribute_of_an_unknown_type() -> Built:
    node = make_node("Softmax", ["x"], ["y"])
    node.attribute.append(AttributeProto(name="axis", type=AttributeProto.INT, i=1))
    data = net(node).SerializeToString()
    return data.replace(b"\xa0\x01\x02", b"\xa0\x01\x63")


@damaged
def attribute_that_refers_to_nothing() -> Built:
    node = make_node("Softmax", ["x"], ["y"])
    node.attribute.append(AttributeProto(name="axis", type=AttributeProto.INT, ref_attr_name="nowhere"))
    return net(node)


@damaged
def constant_without_a_value() -> Built:
    return net(make_node("Constant", [], ["c"]), make_node("Add", ["x", "c"], ["y"]))


@damaged
def constant_of_two_values() -> Built:
    return net(
        make_node("Constant", [], ["c"], value_float=1.0, value_int=1), make_node("Add", ["x", "c"], ["y"])
    )


@damaged
def node_with_too_many_inputs() -> Built:
    return net(make_node("Relu", ["x"] * 50, ["y"]))


@damaged
def node_with_too_few_inputs() -> Built:
    return net(make_node("Add", ["x"], ["y"]))


@damaged
def node_without_inputs() -> Built:
    return net(make_node("Neg", [], ["y"]))


@damaged
def node_whose_inputs_are_absent() -> Built:
    return net(make_node("Add", ["", ""], ["y"]))


@damaged
def node_with_too_many_outputs() -> Built:
    return net(make_node("Relu", ["x"], ["y", *(f"o{i}" for i in range(10))]))


@unrunnable
def types_that_do_not_fit() -> Built:
    return net(make_node("And", ["x", "x"], ["y"]))


@unrunnable
def shapes_that_do_not_fit() -> Built:
    return net(make_node("MatMul", ["x", "x"], ["y"]))


@unrunnable
def permutation_that_is_none() -> Built:
    return net(make_node("Transpose", ["x"], ["y"], perm=[0, 7]))


@unrunnable
def permutation_of_a_weight_that_is_none() -> Built:
    return net(
        make_node("Transpose", ["w"], ["t"], perm=[0, 7]),
        make_node("Add", ["x", "t"], ["y"]),
        weights=[from_array(np.ones((4, 2), np.float32), "w")],
    )


@legal
def axis_out_of_range() -> Built:
    return net(make_node("Softmax", ["x"], ["y"], axis=2**62))


@damaged
def if_without_branches() -> Built:
    return net(make_node("If", ["c"], ["y"]), inputs=[make_tensor_value_info("c", TensorProto.BOOL, [])])


@unrunnable
def branch_without_outputs() -> Built:
    empty = GraphProto(name="empty")
    return net(
        make_node("If", ["c"], ["y"], then_branch=empty, else_branch=empty),
        inputs=[make_tensor_value_info("c", TensorProto.BOOL, [])],
    )
