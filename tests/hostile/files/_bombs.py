"""Graphs that grow once computed: to 64 KiB and a little more, where the tests that use them allow 4."""

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

from tests.hostile.files._build import Built, bomb, floats, ints, legal, net, unrunnable

SIDE = 2**7
"""A square of floats with this side takes 64 KiB."""
COUNT = SIDE**2


def folded(*nodes: NodeProto, weights: Sequence[TensorProto]) -> ModelProto:
    """`nodes` make the float tensor `big`; y is x and the sum of what `big` and the largest of x make."""
    return net(
        *nodes,
        make_node("ReduceMax", ["x"], ["largest"], keepdims=0),
        make_node("Min", ["big", "largest"], ["some"]),
        make_node("ReduceSum", ["some"], ["sum"], keepdims=0),
        make_node("Add", ["x", "sum"], ["y"]),
        weights=weights,
    )


def numbers(*values: float) -> list[TensorProto]:
    return [from_array(np.asarray(v, np.float32), name) for v, name in zip(values, "abc", strict=True)]


@bomb
def constant_of_a_shape() -> Built:
    return folded(make_node("ConstantOfShape", ["n"], ["big"]), weights=[ints("n", SIDE, SIDE)])


@bomb
def expanded() -> Built:
    return folded(
        make_node("Expand", ["one", "n"], ["big"]),
        weights=[from_array(np.ones(1, np.float32), "one"), ints("n", SIDE, SIDE)],
    )


@bomb
def tiled_again_and_again() -> Built:
    return folded(
        make_node("Tile", ["one", "n"], ["a"]),
        make_node("Tile", ["a", "n"], ["b"]),
        make_node("Tile", ["b", "n"], ["big"]),
        weights=[from_array(np.ones(1, np.float32), "one"), ints("n", 2**5)],
    )


@bomb
def long_range() -> Built:
    return folded(make_node("Range", ["a", "b", "c"], ["big"]), weights=numbers(0, COUNT, 1))


@bomb
def long_range_of_integers() -> Built:
    return folded(
        make_node("Range", ["i", "j", "k"], ["r"]),
        make_node("Cast", ["r"], ["big"], to=TensorProto.FLOAT),
        weights=[from_array(np.asarray(v, np.int64), n) for v, n in ((-COUNT, "i"), (COUNT, "j"), (1, "k"))],
    )


@bomb
def padded() -> Built:
    return folded(
        make_node("Pad", ["one", "n"], ["big"]),
        weights=[from_array(np.ones((1, 1), np.float32), "one"), ints("n", *[SIDE // 2] * 4)],
    )


@bomb
def resized_to_a_size() -> Built:
    return folded(
        make_node("Resize", ["one", "", "", "n"], ["big"], mode="nearest"),
        weights=[from_array(np.ones((1, 1), np.float32), "one"), ints("n", SIDE, SIDE)],
    )


@bomb
def resized_by_a_scale() -> Built:
    return folded(
        make_node("Resize", ["one", "", "n"], ["big"], mode="nearest"),
        weights=[
            from_array(np.ones((1, 1), np.float32), "one"),
            from_array(np.asarray([SIDE, SIDE], np.float32), "n"),
        ],
    )


@bomb
def one_hot_of_some_depth() -> Built:
    return folded(
        make_node("OneHot", ["i", "depth", "values"], ["big"]),
        weights=[
            ints("i", *range(SIDE)),
            from_array(np.asarray(SIDE), "depth"),
            from_array(np.asarray([0, 1], np.float32), "values"),
        ],
    )


@bomb
def eye() -> Built:
    return folded(
        make_node("ConstantOfShape", ["n"], ["c"]),
        make_node("EyeLike", ["c"], ["big"], dtype=TensorProto.FLOAT),
        weights=[ints("n", SIDE, SIDE)],
    )


@bomb
def long_window() -> Built:
    return folded(make_node("HannWindow", ["n"], ["big"]), weights=[from_array(np.asarray(COUNT), "n")])


@bomb
def concatenated_with_itself_six_times() -> Built:
    nodes = [make_node("Concat", [f"v{i}", f"v{i}"], [f"v{i + 1}"], axis=0) for i in range(6)]
    return folded(
        *nodes, make_node("Identity", ["v6"], ["big"]), weights=[from_array(np.ones(256, np.float32), "v0")]
    )


@bomb
def outer_products_of_outer_products() -> Built:
    nodes = [
        node
        for i in range(2)
        for node in (
            make_node("Unsqueeze", [f"v{i}", "end"], [f"u{i}"]),
            make_node("Add", [f"v{i}", f"u{i}"], [f"w{i}"]),
            make_node("Flatten", [f"w{i}"], [f"f{i}"], axis=0),
            make_node("Squeeze", [f"f{i}"], [f"v{i + 1}"]),
        )
    ]
    return folded(
        *nodes,
        make_node("Identity", ["v2"], ["big"]),
        weights=[from_array(np.ones(12, np.float32), "v0"), ints("end", -1)],
    )


@legal
def text_expanded() -> Built:
    return net(
        make_node("Expand", ["s", "n"], ["big"]),
        outputs=[make_tensor_value_info("big", TensorProto.STRING, ["a", "b"])],
        weights=[from_array(np.asarray(["0123456789"], object), "s"), ints("n", SIDE, SIDE)],
    )


@legal
def many_constants_just_below_the_limit() -> Built:
    """64 KiB, each of which is modest."""
    nodes = [make_node("ReduceMax", ["x"], ["largest"], keepdims=0)]
    for i in range(64):
        nodes.append(make_node("Constant", [], [f"k{i}"], value_float=float(i)))
        nodes.append(make_node("Expand", [f"k{i}", "n"], [f"e{i}"]))
        nodes.append(make_node("Min", [f"e{i}", "largest"], [f"m{i}"]))
        nodes.append(make_node("ReduceSum", [f"m{i}"], [f"r{i}"], keepdims=0))
    nodes.append(make_node("Sum", ["x", *(f"r{i}" for i in range(64))], ["y"]))
    return net(*nodes, weights=[ints("n", 16, 16)])


@unrunnable
def tiled_by_a_negative_count() -> Built:
    return folded(
        make_node("Tile", ["one", "n"], ["big"]),
        weights=[from_array(np.ones(1, np.float32), "one"), ints("n", -3)],
    )


@unrunnable
def range_in_steps_of_zero() -> Built:
    return folded(make_node("Range", ["a", "b", "c"], ["big"]), weights=numbers(0, 1, 0))


def loop(steps: int) -> ModelProto:
    """A vector that is doubled in every step."""
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
            from_array(np.asarray(steps), "n"),
            from_array(np.asarray(True), "yes"),
            from_array(np.zeros(1, np.float32), "one"),
        ],
    )


@legal
def a_very_long_chain() -> Built:
    nodes = [make_node("Neg", [f"v{i}"], [f"v{i + 1}"]) for i in range(2_000)]
    nodes.insert(0, make_node("Identity", ["x"], ["v0"]))
    nodes.append(make_node("Identity", ["v2000"], ["y"]))
    return net(*nodes)


@legal
def a_very_long_chain_of_transposed_weights() -> Built:
    nodes = [make_node("Transpose", [f"v{i}"], [f"v{i + 1}"], perm=[1, 0]) for i in range(1501)]
    nodes.append(make_node("Add", ["x", "v1501"], ["y"]))
    return net(*nodes, weights=[from_array(np.ones((4, 2), np.float32), "v0")])


@legal
def a_very_long_chain_of_constants() -> Built:
    nodes = [make_node("Add", [f"v{i}", "one"], [f"v{i + 1}"]) for i in range(400)]
    nodes.append(make_node("Add", ["x", "v400"], ["y"]))
    one = from_array(np.ones(1, np.float32), "one")
    return net(*nodes, weights=[one, from_array(np.ones(1, np.float32), "v0")])
