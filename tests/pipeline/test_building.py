"""What a pass builds an edit with, and tells a near miss by."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from graphopt.ir import FileRange, InMemory, Scratch, parse
from graphopt.pipeline import Context, NearMiss, Nodes, Trail, assume_not_empty, map_tiles
from tests.pipeline._cases import Cases

HEAD = '<ir_version: 10, opset_import: ["" : 23]>'


def model(body: str, inputs: str = "float[B,4] x", output: str = "float[B,4] y") -> ir.Model:
    return parse(f"{HEAD} g ({inputs}) => ({output}) {{ {body} }}")


def test_new_nodes_are_named_after_what_they_replace() -> None:
    x = model("y = Neg(x)").graph.inputs[0]
    make = Nodes("gate")
    two = make.constant(2, np.float32, "two")
    y = make.op("Mul", [x, two], "doubled", like=x)
    z = make.op("Cast", [y], "half", like=y, dtype=ir.DataType.FLOAT16, to=ir.DataType.FLOAT16)

    assert [node.name for node in make.nodes] == ["gate/doubled", "gate/half"]
    assert [value.name for value in make.initializers] == ["gate/two"]
    assert (y.dtype, str(y.shape)) == (ir.DataType.FLOAT, str(x.shape))
    assert (z.dtype, str(z.shape)) == (ir.DataType.FLOAT16, str(x.shape))
    assert all(node.graph is None for node in make.nodes)


def test_several_outputs_and_a_copy() -> None:
    graph = model("y = Neg(x)").graph
    x, make = graph.inputs[0], Nodes("n")
    first, left_out, last = make.many("Split", [x], "part", [x, None, x], axis=1)
    (copied,) = make.copy(graph[0], [first], "again")

    assert [first.name, left_out.name, last.name] == ["n/part", "", "n/part2"]
    assert (copied.producer() or graph[0]).op_type == "Neg"
    assert copied.shape is None
    assert copied.dtype == ir.DataType.FLOAT


TRAIL = Trail(lambda node: node.op_type == "Exp", (("Add",), ("Div", "Reciprocal")), "all is there", ("Neg",))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("a = Exp(x)  y = Sub(a, x)", "Exp, then Sub where Add is looked for"),
        ("a = Exp(x)  b = Neg(a)  c = Add(b, x)  y = Relu(c)", "Exp -> Neg -> Add, then Relu where Div or "),
        ("a = Exp(x)  b = Add(a, x)  y = Div(x, b)", "all is there"),
        ("y = Exp(x)", "Exp, then nothing where Add is looked for"),
    ],
)
def test_a_trail_says_how_far_a_match_got(body: str, said: str) -> None:
    (miss,) = TRAIL.near_misses(model(body).graph, set())
    assert isinstance(miss, NearMiss)
    assert miss.reason.startswith(said)


def test_a_trail_is_silent_about_what_was_told_and_about_others() -> None:
    graph = model("a = Exp(x)  b = Add(a, x)  y = Div(x, b)").graph
    assert list(TRAIL.near_misses(graph, {graph[2]})) == []
    assert list(TRAIL.near_misses(model("y = Tanh(x)").graph, set())) == []


def test_sizes_that_may_be_zero_are_assumed_or_refused() -> None:
    given = model("y = Neg(x)  i = NonZero(x)  z = Neg(i)", output="float[B,4] y, int64[2,K] z")
    context = Context(given)
    x, indices = given.graph.inputs[0], given.graph[2].outputs[0]

    (assumed,) = assume_not_empty([(x, 0)], "a mean", context) or [None]
    assert not isinstance(assumed, str)
    assert assumed is not None
    assert assumed.not_empty == ("B",)
    assert assume_not_empty([(x, 1)], "a mean", context) == []
    assert "a mean of nothing fails" in assume_not_empty([(indices, 1)], "a mean", context)
    assert assume_not_empty([(x, 0)], "a mean", Context(given, domain=Cases())) == []


def test_tiles_come_in_order() -> None:
    rows = InMemory(np.arange(3 << 20, dtype=np.float32).reshape(-1, 1024))
    sums = list(map_tiles(rows, lambda tile: (len(tile), float(tile[0, 0]))))
    assert len(sums) > 1
    assert sum(count for count, _ in sums) == len(rows.array)
    assert sums == sorted(sums, key=lambda item: item[1])


def test_weights_are_stored_in_the_scratch_file_where_there_is_one(tmp_path: Path) -> None:
    pieces = [np.ones((1, 3), np.float32), np.zeros((2, 3), np.float32)]
    given = model("y = Neg(x)")
    held = Context(given).store(pieces, ir.DataType.FLOAT, (3, 3))
    spilled = Context(given, scratch=Scratch(tmp_path)).store(pieces, ir.DataType.FLOAT, (3, 3))

    assert isinstance(held, InMemory)
    assert isinstance(spilled, FileRange)
    assert np.array_equal(held.read(), spilled.read())
