"""Graphs that are not graphs, and nesting."""

from __future__ import annotations

import numpy as np
from onnx import AttributeProto, ModelProto, TensorProto
from onnx.helper import (
    make_graph,
    make_node,
    make_opsetid,
    make_tensor_value_info,
)
from onnx.numpy_helper import from_array

from tests.hostile.files._build import Built, damaged, floats, legal, net, relu, with_weight


@damaged
def cycle() -> Built:
    return net(
        make_node("Add", ["x", "b"], ["a"]), make_node("Relu", ["a"], ["b"]), make_node("Relu", ["b"], ["y"])
    )


@damaged
def node_that_feeds_itself() -> Built:
    return net(make_node("Add", ["x", "y"], ["y"]))


@damaged
def cycle_through_a_subgraph() -> Built:
    then = make_graph([make_node("Relu", ["b"], ["t"])], "then", [], [floats("t", 2, 4)])
    branch = make_node("If", ["c"], ["a"], then_branch=then, else_branch=then)
    return net(
        branch,
        make_node("Relu", ["a"], ["b"]),
        make_node("Relu", ["b"], ["y"]),
        inputs=[floats("x", 2, 4), make_tensor_value_info("c", TensorProto.BOOL, [])],
    )


@damaged
def two_values_of_one_name() -> Built:
    return net(make_node("Relu", ["x"], ["y"]), make_node("Abs", ["x"], ["y"]))


@damaged
def two_inputs_of_one_name() -> Built:
    return net(make_node("Relu", ["x"], ["y"]), inputs=[floats("x", 2, 4), floats("x", 2, 4)])


@damaged
def value_named_like_an_input() -> Built:
    return net(make_node("Relu", ["x"], ["x"]), make_node("Relu", ["x"], ["y"]))


@damaged
def value_named_like_a_weight() -> Built:
    model = with_weight(from_array(np.ones(4, np.float32), "w"))
    model.graph.node.insert(0, make_node("Relu", ["x"], ["w"]))
    return model


@damaged
def two_weights_of_one_name() -> Built:
    model = with_weight(from_array(np.ones(4, np.float32), "w"))
    model.graph.initializer.append(from_array(np.zeros(4, np.float32), "w"))
    return model


@damaged
def two_outputs_of_one_name() -> Built:
    return net(make_node("Relu", ["x"], ["y"]), outputs=[floats("y", 2, 4), floats("y", 2, 4)])


@damaged
def output_of_a_branch_that_nothing_makes() -> Built:
    branch = make_graph([make_node("Relu", ["x"], ["t"])], "branch", [], [floats("u", 2, 4)])
    return net(
        make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch),
        inputs=[floats("x", 2, 4), make_tensor_value_info("c", TensorProto.BOOL, [])],
    )


@damaged
def value_of_a_subgraph_used_outside() -> Built:
    then = make_graph([make_node("Relu", ["x"], ["t"])], "then", [], [floats("t", 2, 4)])
    branch = make_node("If", ["c"], ["a"], then_branch=then, else_branch=then)
    return net(
        branch,
        make_node("Relu", ["t"], ["y"]),
        inputs=[floats("x", 2, 4), make_tensor_value_info("c", TensorProto.BOOL, [])],
    )


@damaged
def no_graph() -> Built:
    return ModelProto(ir_version=10, opset_import=[make_opsetid("", 23)])


@damaged
def empty_graph() -> Built:
    return net(inputs=[], outputs=[])


@damaged
def weight_without_a_name() -> Built:
    model = relu()
    model.graph.initializer.append(from_array(np.ones(4, np.float32), ""))
    return model


@damaged
def input_without_a_name() -> Built:
    return net(make_node("Relu", ["x"], ["y"]), inputs=[floats("x", 2, 4), floats("", 2, 4)])


@damaged
def output_without_a_name() -> Built:
    return net(make_node("Relu", ["x"], [""]), outputs=[floats("", 2, 4)])


def nested(depth: int) -> bytes:
    """If in If in If, written inside out by hand: protobuf itself refuses to build such a thing slowly."""

    def field(number: int, content: bytes) -> bytes:
        return varint(number << 3 | 2) + varint(len(content)) + content

    def varint(value: int) -> bytes:
        parts = []
        while value > 127:
            parts.append(value & 127 | 128)
            value >>= 7
        return bytes([*parts, value])

    output = make_graph([], "g", [], [floats("y", 2, 4)]).SerializeToString()
    graph = field(1, make_node("Relu", ["x"], ["y"]).SerializeToString()) + output
    for _ in range(depth):
        branches = b"".join(
            field(5, field(1, name) + field(6, body) + varint(20 << 3) + varint(AttributeProto.GRAPH))
            for name, body in (
                (b"then_branch", graph),
                (
                    b"else_branch",
                    make_graph(
                        [make_node("Relu", ["x"], ["y"])], "g", [], [floats("y", 2, 4)]
                    ).SerializeToString(),
                ),
            )
        )
        graph = field(1, field(1, b"c") + field(2, b"y") + field(4, b"If") + branches) + output
    inputs = b"".join(
        field(11, info.SerializeToString())
        for info in (floats("x", 2, 4), make_tensor_value_info("c", TensorProto.BOOL, []))
    )
    return ModelProto(ir_version=10, opset_import=[make_opsetid("", 23)]).SerializeToString() + field(
        7, graph + inputs
    )


@damaged
def nested_thousands_deep() -> Built:
    return nested(5000)


@damaged
def nested_as_deep_as_protobuf_reads() -> Built:
    return nested(32)


@legal
def nested_ten_deep() -> Built:
    return nested(10)
