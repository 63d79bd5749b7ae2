"""Small graphs that are huge once computed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto
from onnx.helper import (
    make_graph,
    make_node,
    make_tensor_value_info,
)
from onnx.numpy_helper import from_array

from tests.hostile.files._build import Built, bomb, floats, ints, net


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
        weights=[
            from_array(np.asarray(v, np.int64), n) for v, n in ((-(2**62), "i"), (2**62, "j"), (1, "k"))
        ],
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
        weights=[
            from_array(np.ones((1, 1), np.float32), "one"),
            from_array(np.asarray([1e6, 1e6], np.float32), "n"),
        ],
    )


@bomb
def one_hot_of_gigantic_depth() -> Built:
    return folded(
        make_node("OneHot", ["i", "depth", "values"], ["big"]),
        weights=[
            ints("i", *range(1000)),
            from_array(np.asarray(2**40), "depth"),
            from_array(np.asarray([0, 1], np.float32), "values"),
        ],
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
    return folded(make_node("HannWindow", ["n"], ["big"]), weights=[from_array(np.asarray(2**45), "n")])


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
def many_constants_just_below_the_limit() -> Built:
    """200 megabytes, each megabyte of which is modest."""
    nodes = []
    for i in range(200):
        nodes.append(make_node("Constant", [], [f"k{i}"], value_float=float(i)))
        nodes.append(make_node("Expand", [f"k{i}", "n"], [f"e{i}"]))
        nodes.append(make_node("ReduceSum", [f"e{i}"], [f"r{i}"], keepdims=0))
    nodes.append(make_node("Sum", ["x", *(f"r{i}" for i in range(200))], ["y"]))
    return net(*nodes, weights=[ints("n", 512, 511)])


@bomb
def a_very_long_chain() -> Built:
    nodes = [make_node("Neg", [f"v{i}"], [f"v{i + 1}"]) for i in range(2_000)]
    nodes.insert(0, make_node("Identity", ["x"], ["v0"]))
    nodes.append(make_node("Identity", ["v2000"], ["y"]))
    return net(*nodes)


@bomb
def a_very_long_chain_of_transposed_weights() -> Built:
    nodes = [make_node("Transpose", [f"v{i}"], [f"v{i + 1}"], perm=[1, 0]) for i in range(1501)]
    nodes.append(make_node("Add", ["x", "v1501"], ["y"]))
    return net(*nodes, weights=[from_array(np.ones((4, 2), np.float32), "v0")])


@bomb
def a_very_long_chain_of_constants() -> Built:
    nodes = [make_node("Add", [f"v{i}", "one"], [f"v{i + 1}"]) for i in range(400)]
    nodes.append(make_node("Add", ["x", "v400"], ["y"]))
    one = from_array(np.ones(1, np.float32), "one")
    return net(*nodes, weights=[one, from_array(np.ones(1, np.float32), "v0")])
