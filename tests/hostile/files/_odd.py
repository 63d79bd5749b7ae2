"""Odd graphs, most of them valid."""

from __future__ import annotations

import numpy as np
from onnx import ValueInfoProto
from onnx.helper import (
    make_node,
    make_tensor_value_info,
)
from onnx.numpy_helper import from_array

from tests.hostile.files._build import Built, damaged, external, floats, legal, net, unrunnable


@legal
def inputs_that_are_outputs() -> Built:
    return net(outputs=[floats("x", 2, 4)])


@legal
def weights_that_are_outputs() -> Built:
    return net(
        make_node("Relu", ["x"], ["y"]),
        outputs=[floats("y", 2, 4), floats("w", 4)],
        weights=[from_array(np.ones(4, np.float32), "w")],
    )


@unrunnable
def no_inputs() -> Built:
    return net(make_node("RandomNormal", [], ["y"], shape=[2, 4]), inputs=[])


@unrunnable
def gigantic_inputs() -> Built:
    return net(
        make_node("Relu", ["x"], ["y"]),
        inputs=[floats("x", 2**31, 2**31)],
        outputs=[floats("y", 2**31, 2**31)],
    )


@unrunnable
def inputs_whose_size_overflows() -> Built:
    return net(
        make_node("Relu", ["x"], ["y"]),
        inputs=[floats("x", 2**62, 2**62)],
        outputs=[floats("y", 2**62, 2**62)],
    )


@legal
def inputs_of_negative_size() -> Built:
    return net(make_node("Relu", ["x"], ["y"]), inputs=[floats("x", -3, 4)], outputs=[floats("y", -3, 4)])


@damaged
def inputs_of_an_unknown_type() -> Built:
    return net(make_node("Relu", ["x"], ["y"]), inputs=[make_tensor_value_info("x", 77, [2, 4])])


@damaged
def inputs_without_a_type() -> Built:
    return net(make_node("Relu", ["x"], ["y"]), inputs=[ValueInfoProto(name="x")])


@legal
def empty_tensors() -> Built:
    return net(
        make_node("Concat", ["x", "w"], ["y"], axis=0),
        weights=[from_array(np.zeros((0, 4), np.float32), "w")],
    )


@legal
def names_in_many_scripts() -> Built:
    name = "значение/数値\n\t[bold]\x1b[31m'\"" + "x" * 5000
    return net(make_node("Relu", ["x"], [name], name=name), make_node("Relu", [name], ["y"]))


@legal
def a_thousand_unused_weights() -> Built:
    return net(
        make_node("Relu", ["x"], ["y"]),
        weights=[from_array(np.ones(4, np.float32), f"w{i}") for i in range(1000)],
    )


@legal
def overlapping_external_data() -> Built:
    return external(offset=0, length=16)


@damaged
def two_nodes_of_one_name() -> Built:
    return net(make_node("Relu", ["x"], ["a"], name="n"), make_node("Relu", ["a"], ["y"], name="n"))


@legal
def a_sum_of_many_inputs() -> Built:
    return net(make_node("Sum", ["x"] * 5000, ["y"]))
