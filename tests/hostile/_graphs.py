"""Small .onnx files that mean harm: each builder returns a model, or the bytes of one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto
from onnx.helper import (
    make_attribute,
    make_function,
    make_graph,
    make_node,
    make_opsetid,
    make_tensor_value_info,
)
from onnx.numpy_helper import from_array

__all__ = ["BOMBS", "DAMAGED", "LEGAL", "UNRUNNABLE", "net", "serialized"]

Built = ModelProto | bytes
Builder = Callable[[], Built]

DAMAGED: dict[str, Builder] = {}
"""Every command refuses these with exit code 2."""
UNRUNNABLE: dict[str, Builder] = {}
"""onnx's checker has nothing to say; onnxruntime has."""
LEGAL: dict[str, Builder] = {}
"""Odd, but valid: no command may call itself a bug."""
BOMBS: dict[str, Builder] = {}
"""Valid, small, and huge once computed."""


def damaged(build: Builder) -> Builder:
    DAMAGED[build.__name__] = build
    return build


def unrunnable(build: Builder) -> Builder:
    UNRUNNABLE[build.__name__] = build
    return build


def legal(build: Builder) -> Builder:
    LEGAL[build.__name__] = build
    return build


def bomb(build: Builder) -> Builder:
    BOMBS[build.__name__] = build
    return build


def serialized(built: Built) -> bytes:
    """The bytes of the file."""
    return built if isinstance(built, bytes) else built.SerializeToString()


def floats(name: str, *dims: int | str) -> ValueInfoProto:
    return make_tensor_value_info(name, TensorProto.FLOAT, dims)


def net(
    *nodes: NodeProto,
    inputs: Sequence[ValueInfoProto] = (floats("x", 2, 4),),
    outputs: Sequence[ValueInfoProto] = (floats("y", 2, 4),),
    weights: Sequence[TensorProto] = (),
    opset: int = 23,
) -> ModelProto:
    """A model of `nodes`; the default interface is float[2,4] x to float[2,4] y."""
    graph = make_graph(list(nodes), "net", list(inputs), list(outputs), list(weights))
    return onnx.helper.make_model(graph, opset_imports=[make_opsetid("", opset)], ir_version=10)


def relu() -> ModelProto:
    return net(make_node("Relu", ["x"], ["y"]))


def ints(name: str, *values: int) -> TensorProto:
    return from_array(np.asarray(values, np.int64), name)


def with_weight(weight: TensorProto) -> ModelProto:
    return net(make_node("Add", ["x", "w"], ["y"]), weights=[weight])


def external(location: str = "net.data", dims: Sequence[int] = (4,), **entries: object) -> ModelProto:
    weight = TensorProto(
        name="w", data_type=TensorProto.FLOAT, dims=dims, data_location=TensorProto.EXTERNAL
    )
    for key, value in {"location": location, **entries}.items():
        weight.external_data.add(key=key, value=str(value))
    return with_weight(weight)


# Graphs that are not graphs.


@damaged
def cycle() -> Built:
    return net(make_node("Add", ["x", "b"], ["a"]), make_node("Relu", ["a"], ["b"]), make_node("Relu", ["b"], ["y"]))


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
def output_that_nothing_makes() -> Built:
    return net(make_node("Relu", ["x"], ["z"]))


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


# Opsets, domains and versions.


@damaged
def opset_zero() -> Built:
    return net(make_node("Relu", ["x"], ["y"]), opset=0)


@damaged
def opset_of_the_far_future() -> Built:
    return net(make_node("Relu", ["x"], ["y"]), opset=10**9)


@damaged
def negative_opset() -> Built:
    return net(make_node("Relu", ["x"], ["y"]), opset=-1)


@damaged
def two_opsets_of_one_domain() -> Built:
    model = net(make_node("Relu", ["x"], ["y"]), opset=23)
    model.opset_import.append(make_opsetid("", 13))
    return model


@damaged
def two_spellings_of_one_domain() -> Built:
    model = net(make_node("Relu", ["x"], ["y"]), opset=23)
    model.opset_import.append(make_opsetid("ai.onnx", 13))
    return model


@damaged
def domain_that_is_not_imported() -> Built:
    return net(make_node("Relu", ["x"], ["y"], domain="nobody"))


@unrunnable
def operator_of_an_unknown_domain() -> Built:
    model = net(make_node("Mystery", ["x"], ["y"], domain="nobody"))
    model.opset_import.append(make_opsetid("nobody", 10**9))
    return model


@damaged
def operator_that_does_not_exist() -> Built:
    return net(make_node("Mystery", ["x"], ["y"]))


@damaged
def node_without_an_operator() -> Built:
    return net(make_node("", ["x"], ["y"]))


@damaged
def ir_version_of_the_far_future() -> Built:
    model = relu()
    model.ir_version = 2**40
    return model


@damaged
def no_ir_version() -> Built:
    model = relu()
    model.ClearField("ir_version")
    return model


@damaged
def opset_of_a_runtime_domain_of_the_far_future() -> Built:
    model = net(make_node("QuickGelu", ["x"], ["y"], domain="com.microsoft"))
    model.opset_import.append(make_opsetid("com.microsoft", 2**62))
    return model


# Tensors.


@damaged
def weight_of_a_gigantic_shape() -> Built:
    return with_weight(TensorProto(name="w", data_type=1, dims=[2**62, 2**62], raw_data=bytes(16)))


@damaged
def weight_whose_size_overflows_to_nothing() -> Built:
    return with_weight(TensorProto(name="w", data_type=1, dims=[2**32, 2**32], raw_data=b""))


@damaged
def weight_whose_size_overflows_to_what_it_has() -> Built:
    return with_weight(TensorProto(name="w", data_type=1, dims=[2**62 + 1, 4], raw_data=bytes(16)))


@damaged
def weight_of_gigantic_and_zero_dims() -> Built:
    return with_weight(TensorProto(name="w", data_type=1, dims=[2**62, 2**62, 0, 4], raw_data=b""))


@damaged
def weight_of_a_negative_shape() -> Built:
    return with_weight(TensorProto(name="w", data_type=1, dims=[-2, -2], raw_data=bytes(16)))


@damaged
def weight_of_high_rank() -> Built:
    return with_weight(TensorProto(name="w", data_type=1, dims=[1] * 100_000 + [4], raw_data=bytes(16)))


@damaged
def weight_of_an_unknown_dtype() -> Built:
    return with_weight(TensorProto(name="w", data_type=99, dims=[4], raw_data=bytes(16)))


@damaged
def weight_of_no_dtype() -> Built:
    return with_weight(TensorProto(name="w", data_type=0, dims=[4], raw_data=bytes(16)))


@damaged
def weight_of_a_negative_dtype() -> Built:
    return with_weight(TensorProto(name="w", data_type=-1, dims=[4], raw_data=bytes(16)))


@damaged
def weight_in_two_fields() -> Built:
    return with_weight(
        TensorProto(name="w", data_type=1, dims=[4], raw_data=bytes(16), float_data=[1.0, 2.0, 3.0, 4.0])
    )


@damaged
def weight_in_the_wrong_field() -> Built:
    return with_weight(TensorProto(name="w", data_type=1, dims=[4], int64_data=[1, 2, 3, 4]))


@damaged
def weight_without_data() -> Built:
    return with_weight(TensorProto(name="w", data_type=1, dims=[4]))


@damaged
def weight_of_too_few_numbers() -> Built:
    return with_weight(TensorProto(name="w", data_type=1, dims=[4], float_data=[1.0]))


@damaged
def text_weight_in_raw_bytes() -> Built:
    return with_weight(TensorProto(name="w", data_type=TensorProto.STRING, dims=[1], raw_data=b"text"))


@damaged
def text_weight_of_too_few_texts() -> Built:
    weight = TensorProto(name="w", data_type=TensorProto.STRING, dims=[2**40], string_data=[b"text"])
    return net(make_node("Relu", ["x"], ["y"]), weights=[weight])


@damaged
def segmented_weight() -> Built:
    weight = from_array(np.ones(4, np.float32), "w")
    weight.segment.begin, weight.segment.end = 0, 2**62
    return with_weight(weight)


@damaged
def sparse_weight() -> Built:
    model = relu()
    values, indices = from_array(np.ones(1, np.float32), "s"), ints("i", 2**62)
    model.graph.sparse_initializer.append(onnx.helper.make_sparse_tensor(values, indices, [2**62]))
    return model


@damaged
def sparse_constant() -> Built:
    values, indices = from_array(np.ones(1, np.float32), "s"), ints("i", 2**62)
    sparse = onnx.helper.make_sparse_tensor(values, indices, [2**62])
    constant = make_node("Constant", [], ["c"], sparse_value=sparse)
    return net(constant, make_node("Relu", ["x"], ["y"]))


@damaged
def external_data_past_the_end() -> Built:
    return external(offset=2**62)


@damaged
def external_data_at_an_overflowing_offset() -> Built:
    return external(offset=2**64)


@damaged
def external_data_at_an_absurd_offset() -> Built:
    return external(offset="9" * 5000)


@damaged
def external_data_at_a_negative_offset() -> Built:
    return external(offset=-16)


@damaged
def external_data_of_the_wrong_length() -> Built:
    return external(offset=0, length=4)


@damaged
def external_data_of_a_gigantic_shape() -> Built:
    return external(dims=[2**62, 2**62])


@damaged
def external_data_in_a_device() -> Built:
    return external(location="/dev/zero", dims=[2**30])


@damaged
def external_data_in_the_model_itself() -> Built:
    return external(location="net.onnx", dims=[2**20])


@damaged
def external_data_without_a_location() -> Built:
    weight = TensorProto(name="w", data_type=1, dims=[4], data_location=TensorProto.EXTERNAL)
    return with_weight(weight)


@damaged
def external_text() -> Built:
    model = external(dims=[1])
    model.graph.initializer[0].data_type = TensorProto.STRING
    return model


# Attributes and nodes.


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
    return net(make_node("Relu", ["x"] * 50_000, ["y"]))


@damaged
def node_with_too_few_inputs() -> Built:
    return net(make_node("Add", ["x"], ["y"]))


@damaged
def node_without_inputs() -> Built:
    return net(make_node("Reshape", [], ["y"]))


@damaged
def node_whose_inputs_are_absent() -> Built:
    return net(make_node("Add", ["", ""], ["y"]))


@damaged
def node_with_too_many_outputs() -> Built:
    return net(make_node("Relu", ["x"], ["y", *(f"o{i}" for i in range(1000))]))


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
    return net(
        make_node("If", ["c"], ["y"]), inputs=[make_tensor_value_info("c", TensorProto.BOOL, [])]
    )


@unrunnable
def branch_without_outputs() -> Built:
    empty = GraphProto(name="empty")
    return net(
        make_node("If", ["c"], ["y"], then_branch=empty, else_branch=empty),
        inputs=[make_tensor_value_info("c", TensorProto.BOOL, [])],
    )


# Names and texts.


@damaged
def name_that_is_not_text() -> Built:
    return net(make_node("Relu", ["x"], ["middle"]), make_node("Relu", ["middle"], ["y"])).SerializeToString().replace(
        b"middle", b"mi\xff\xfele"
    )


@damaged
def operator_that_is_not_text() -> Built:
    return relu().SerializeToString().replace(b"Relu", b"\xff\xfe\xfd\xfc")


@damaged
def domain_that_is_not_text() -> Built:
    model = net(make_node("Relu", ["x"], ["y"], domain="nobody"))
    model.opset_import.append(make_opsetid("nobody", 1))
    return model.SerializeToString().replace(b"nobody", b"no\xff\xfedy")


@damaged
def dimension_that_is_not_text() -> Built:
    model = net(make_node("Relu", ["x"], ["y"]), inputs=[floats("x", "batch", 4)])
    return model.SerializeToString().replace(b"batch", b"ba\xff\xfeh")


@damaged
def external_location_that_is_not_text() -> Built:
    return external(location="net.data").SerializeToString().replace(b"net.data", b"net\xff\xfeata")


# Functions.


def calling(*functions: onnx.FunctionProto, name: str = "f0") -> ModelProto:
    model = net(make_node(name, ["x"], ["y"], domain="own"))
    model.opset_import.append(make_opsetid("own", 1))
    model.functions.extend(functions)
    return model


def function(name: str, *nodes: NodeProto) -> onnx.FunctionProto:
    opsets = [make_opsetid("", 23), make_opsetid("own", 1)]
    return make_function("own", name, ["a"], ["b"], list(nodes), opsets)


@damaged
def function_that_calls_itself() -> Built:
    return calling(function("f0", make_node("f0", ["a"], ["b"], domain="own")))


@damaged
def functions_that_call_each_other() -> Built:
    return calling(
        function("f0", make_node("f1", ["a"], ["b"], domain="own")),
        function("f1", make_node("f0", ["a"], ["b"], domain="own")),
    )


@damaged
def function_given_twice() -> Built:
    once = function("f0", make_node("Relu", ["a"], ["b"]))
    return calling(once, once)


@damaged
def function_that_makes_no_output() -> Built:
    return calling(function("f0", make_node("Relu", ["a"], ["c"])))


@damaged
def function_without_a_name() -> Built:
    return calling(function("", make_node("Relu", ["a"], ["b"])), name="")


@bomb
def functions_that_double_twenty_times() -> Built:
    """A million nodes once inlined."""
    made = [
        function(
            f"f{i}",
            make_node(f"f{i + 1}", ["a"], ["m"], domain="own"),
            make_node(f"f{i + 1}", ["m"], ["b"], domain="own"),
        )
        for i in range(40)
    ]
    return calling(*made, function("f40", make_node("Relu", ["a"], ["b"])))


# Nesting.


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
            for name, body in ((b"then_branch", graph), (b"else_branch", make_graph([make_node("Relu", ["x"], ["y"])], "g", [], [floats("y", 2, 4)]).SerializeToString()))
        )
        graph = field(1, field(1, b"c") + field(2, b"y") + field(4, b"If") + branches) + output
    inputs = b"".join(
        field(11, info.SerializeToString())
        for info in (floats("x", 2, 4), make_tensor_value_info("c", TensorProto.BOOL, []))
    )
    return (
        ModelProto(ir_version=10, opset_import=[make_opsetid("", 23)]).SerializeToString()
        + field(7, graph + inputs)
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


# Folding bombs.


def folded(*nodes: NodeProto, weights: Sequence[TensorProto]) -> ModelProto:
    """`nodes` make the float tensor `big`, which nobody can hold; y is the sum of it and x."""
    return net(
        *nodes,
        make_node("ReduceSum", ["big"], ["sum"], keepdims=0),
        make_node("Add", ["x", "sum"], ["y"]),
        weights=weights,
    )


@bomb
def constant_of_a_gigantic_shape() -> Built:
    return folded(make_node("ConstantOfShape", ["n"], ["big"]), weights=[ints("n", 2**20, 2**20, 2**20)])


@bomb
def constant_of_an_overflowing_shape() -> Built:
    return folded(make_node("ConstantOfShape", ["n"], ["big"]), weights=[ints("n", 2**62, 2**62)])


@bomb
def expanded_to_terabytes() -> Built:
    return folded(
        make_node("Expand", ["one", "n"], ["big"]),
        weights=[from_array(np.ones(1, np.float32), "one"), ints("n", 2**20, 2**20)],
    )


@bomb
def tiled_to_terabytes() -> Built:
    return folded(
        make_node("Tile", ["one", "n"], ["a"]),
        make_node("Tile", ["a", "n"], ["b"]),
        make_node("Tile", ["b", "n"], ["big"]),
        weights=[from_array(np.ones(1, np.float32), "one"), ints("n", 2**15)],
    )


@bomb
def tiled_by_a_negative_count() -> Built:
    return folded(
        make_node("Tile", ["one", "n"], ["big"]),
        weights=[from_array(np.ones(1, np.float32), "one"), ints("n", -(2**62))],
    )


def numbers(*values: float) -> list[TensorProto]:
    return [from_array(np.asarray(v, np.float32), name) for v, name in zip(values, "abc", strict=True)]


@bomb
def range_to_terabytes() -> Built:
    return folded(make_node("Range", ["a", "b", "c"], ["big"]), weights=numbers(0, 1e30, 1e-30))


@bomb
def range_in_steps_of_zero() -> Built:
    return folded(make_node("Range", ["a", "b", "c"], ["big"]), weights=numbers(0, 1, 0))


@bomb
def range_to_infinity() -> Built:
    return folded(make_node("Range", ["a", "b", "c"], ["big"]), weights=numbers(0, np.inf, 1))


@bomb
def range_over_nan() -> Built:
    return folded(make_node("Range", ["a", "b", "c"], ["big"]), weights=numbers(np.nan, 1, 1))


@bomb
def range_of_integers_to_the_end() -> Built:
    return folded(
        make_node("Range", ["i", "j", "k"], ["r"]),
        make_node("Cast", ["r"], ["big"], to=TensorProto.FLOAT),
        weights=[from_array(np.asarray(v, np.int64), n) for v, n in ((-(2**62), "i"), (2**62, "j"), (1, "k"))],
    )


@bomb
def padded_to_terabytes() -> Built:
    return folded(
        make_node("Pad", ["one", "n"], ["big"]),
        weights=[from_array(np.ones((1, 1), np.float32), "one"), ints("n", 2**20, 2**20, 2**20, 2**20)],
    )


@bomb
def resized_to_terabytes() -> Built:
    return folded(
        make_node("Resize", ["one", "", "", "n"], ["big"], mode="nearest"),
        weights=[from_array(np.ones((1, 1), np.float32), "one"), ints("n", 2**20, 2**20)],
    )


@bomb
def resized_by_a_gigantic_scale() -> Built:
    return folded(
        make_node("Resize", ["one", "", "n"], ["big"], mode="nearest"),
        weights=[from_array(np.ones((1, 1), np.float32), "one"), from_array(np.asarray([1e6, 1e6], np.float32), "n")],
    )


@bomb
def one_hot_of_gigantic_depth() -> Built:
    return folded(
        make_node("OneHot", ["i", "depth", "values"], ["big"]),
        weights=[ints("i", *range(1000)), from_array(np.asarray(2**40), "depth"), from_array(np.asarray([0, 1], np.float32), "values")],
    )


@bomb
def eye_of_gigantic_size() -> Built:
    return folded(
        make_node("ConstantOfShape", ["n"], ["c"]),
        make_node("EyeLike", ["c"], ["big"], dtype=TensorProto.FLOAT),
        weights=[ints("n", 2**20, 2**20)],
    )


@bomb
def window_of_gigantic_size() -> Built:
    return folded(
        make_node("HannWindow", ["n"], ["big"]), weights=[from_array(np.asarray(2**45), "n")]
    )


@bomb
def concatenated_with_itself_forty_times() -> Built:
    nodes = [make_node("Concat", [f"v{i}", f"v{i}"], [f"v{i + 1}"], axis=0) for i in range(40)]
    return folded(
        *nodes, make_node("Identity", ["v40"], ["big"]), weights=[from_array(np.ones(1024, np.float32), "v0")]
    )


@bomb
def outer_products_of_outer_products() -> Built:
    nodes = [
        node
        for i in range(8)
        for node in (
            make_node("Unsqueeze", [f"v{i}", "end"], [f"u{i}"]),
            make_node("Add", [f"v{i}", f"u{i}"], [f"w{i}"]),
            make_node("Flatten", [f"w{i}"], [f"f{i}"], axis=0),
            make_node("Squeeze", [f"f{i}"], [f"v{i + 1}"]),
        )
    ]
    return folded(
        *nodes,
        make_node("Identity", ["v8"], ["big"]),
        weights=[from_array(np.ones(64, np.float32), "v0"), ints("end", -1)],
    )


@bomb
def text_that_doubles_forty_times() -> Built:
    nodes = [make_node("StringConcat", [f"s{i}", f"s{i}"], [f"s{i + 1}"]) for i in range(40)]
    return net(
        *nodes,
        outputs=[make_tensor_value_info("s40", TensorProto.STRING, [1])],
        weights=[from_array(np.asarray(["0123456789"], object), "s0")],
    )


@bomb
def text_expanded_to_terabytes() -> Built:
    return net(
        make_node("Expand", ["s", "n"], ["big"]),
        outputs=[make_tensor_value_info("big", TensorProto.STRING, ["a", "b"])],
        weights=[from_array(np.asarray(["0123456789"], object), "s"), ints("n", 2**20, 2**20)],
    )


@bomb
def loop_without_end() -> Built:
    body = make_graph(
        [make_node("Identity", ["go"], ["again"]), make_node("Add", ["v", "v"], ["w"])],
        "body",
        [
            make_tensor_value_info("i", TensorProto.INT64, []),
            make_tensor_value_info("go", TensorProto.BOOL, []),
            floats("v", 1),
        ],
        [make_tensor_value_info("again", TensorProto.BOOL, []), floats("w", 1)],
    )
    return net(
        make_node("Loop", ["n", "yes", "one"], ["r"], body=body),
        make_node("Add", ["x", "r"], ["y"]),
        weights=[
            from_array(np.asarray(2**62), "n"),
            from_array(np.asarray(True), "yes"),
            from_array(np.ones(1, np.float32), "one"),
        ],
    )


@bomb
def ten_thousand_constants_just_below_the_limit() -> Built:
    """Ten gigabytes, each megabyte of which is modest."""
    nodes = []
    for i in range(10_000):
        nodes.append(make_node("Constant", [], [f"k{i}"], value_float=float(i)))
        nodes.append(make_node("Expand", [f"k{i}", "n"], [f"e{i}"]))
        nodes.append(make_node("ReduceSum", [f"e{i}"], [f"r{i}"], keepdims=0))
    nodes.append(make_node("Sum", ["x", *(f"r{i}" for i in range(10_000))], ["y"]))
    return net(*nodes, weights=[ints("n", 512, 511)])


@bomb
def a_very_long_chain() -> Built:
    nodes = [make_node("Neg", [f"v{i}"], [f"v{i + 1}"]) for i in range(20_000)]
    nodes.insert(0, make_node("Identity", ["x"], ["v0"]))
    nodes.append(make_node("Identity", ["v20000"], ["y"]))
    return net(*nodes)


@bomb
def a_very_long_chain_of_transposed_weights() -> Built:
    nodes = [make_node("Transpose", [f"v{i}"], [f"v{i + 1}"], perm=[1, 0]) for i in range(5001)]
    nodes.append(make_node("Add", ["x", "v5001"], ["y"]))
    return net(*nodes, weights=[from_array(np.ones((4, 2), np.float32), "v0")])


@bomb
def a_very_long_chain_of_constants() -> Built:
    nodes = [make_node("Add", [f"v{i}", "one"], [f"v{i + 1}"]) for i in range(3000)]
    nodes.append(make_node("Add", ["x", "v3000"], ["y"]))
    one = from_array(np.ones(1, np.float32), "one")
    return net(*nodes, weights=[one, from_array(np.ones(1, np.float32), "v0")])


# Odd, and valid.


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
