"""What helps to recognise formulas: constants, operands in either order, which nodes can go."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from graphopt.ir import (
    Ancestors,
    ConstantMatrix,
    constant_factor,
    constant_matrix,
    constant_table,
    either_order,
    from_shapes,
    initializer,
    leak,
    name_matches,
    only_user,
    orphans,
    parse,
    run_from,
    same_dim,
    same_shape,
    sample_of,
    scalar_operand,
    static_dim,
    subgraphs_of,
    wrong_constant,
)

HEAD = '<ir_version: 10, opset_import: ["" : 23]>'


@pytest.fixture
def graph() -> ir.Graph:
    """y = Tanh(2 x + x), z = a second use of 2 x."""
    return parse(
        f"""{HEAD} g (float[B,4] x) => (float[B,4] y, float[B,4] z)
        <float two = {{2}}, float[1,1,1] wide = {{2}}>
        {{ double = Mul(two, x)  sum = Add(double, x)  y = Tanh(sum)  z = Div(double, wide) }}"""
    ).graph


def value(graph: ir.Graph, name: str) -> ir.Value:
    values = [*graph.inputs, *graph.initializers.values(), *(v for node in graph for v in node.outputs)]
    return next(v for v in values if v.name == name)


def maker(graph: ir.Graph, name: str) -> ir.Node:
    node = value(graph, name).producer()
    assert node is not None
    return node


def test_a_scalar_operand_leaves_the_rank(graph: ir.Graph) -> None:
    x = value(graph, "x")
    assert scalar_operand(value(graph, "two"), x) == 2
    assert scalar_operand(value(graph, "wide"), x) is None
    assert scalar_operand(x, x) is None
    assert scalar_operand(None, x) is None


def test_a_constant_factor_in_either_spelling(graph: ir.Graph) -> None:
    assert constant_factor(value(graph, "double")) == (2.0, value(graph, "x"), maker(graph, "double"))
    assert constant_factor(value(graph, "sum")) is None
    halved = parse(f"{HEAD} g (float[B] x) => (float[B] y) <float two = {{2}}> {{ y = Div(x, two) }}").graph
    found = constant_factor(halved.outputs[0])
    assert found is not None
    assert found[0] == 0.5


def test_operands_in_either_order(graph: ir.Graph) -> None:
    double, x = value(graph, "double"), value(graph, "x")
    assert list(either_order(maker(graph, "sum"))) == [(double, x), (x, double)]


@pytest.mark.parametrize(
    ("constant", "reason"), [(1.4142, None), (1.4140625, None), (1.5, "c is 1.5, not sqrt(2)")]
)
def test_a_wrong_constant_is_told(constant: float, reason: str | None) -> None:
    assert wrong_constant("c", constant, 2**0.5, "sqrt(2)") == reason


def test_the_only_user(graph: ir.Graph) -> None:
    assert only_user(value(graph, "sum")) is maker(graph, "y")
    assert only_user(value(graph, "double")) is None
    assert only_user(value(graph, "y")) is None


def test_what_leaks_and_what_is_orphaned(graph: ir.Graph) -> None:
    tanh, add, mul = (maker(graph, name) for name in ("y", "sum", "double"))
    assert leak([tanh, add]) is None
    assert leak([tanh, add, mul]) == "an inner value has another use: double"
    assert orphans([tanh], ()) == [tanh, add]
    assert set(orphans([tanh, maker(graph, "z")], ())) == {tanh, add, mul, maker(graph, "z")}
    assert orphans([tanh], {value(graph, "sum")}) == [tanh]


def test_ancestors(graph: ir.Graph) -> None:
    found = Ancestors().of(value(graph, "y"))
    assert found == {maker(graph, name) for name in ("y", "sum", "double")}


def test_sizes(graph: ir.Graph) -> None:
    x, named, unnamed = value(graph, "x"), ir.SymbolicDim("B"), ir.SymbolicDim(None)
    assert [static_dim(x, axis) for axis in (0, 1, -1, 2)] == [None, 4, 4, None]
    assert static_dim(None, 0) is None
    assert same_dim(named, ir.SymbolicDim("B"))
    assert not same_dim(unnamed, unnamed)
    assert same_shape(x.shape, value(graph, "y").shape)
    assert not same_shape(ir.Shape([None]), ir.Shape([None]))
    assert not same_shape(None, x.shape)


def test_what_follows_from_shapes_alone() -> None:
    graph = parse(
        f"""{HEAD} g (float[B,4] x, int64[1] n) => (float[B,4] y, float[M,K] z) <int64[1] four = {{4}}>
        {{ b = Shape<end = 1>(x)  s = Concat<axis = 0>(b, four)  t = Concat<axis = 0>(b, n)
           y = Reshape(x, s)  z = Reshape(x, t) }}"""
    ).graph
    assert from_shapes(value(graph, "s"))
    assert not from_shapes(value(graph, "t"))
    assert not from_shapes(value(graph, "x"))


def test_subgraphs_of_a_node() -> None:
    graph = parse(
        f"""{HEAD} g (float[B] x, bool c) => (float[B] y)
        {{ y = If (c) <then_branch = p () => (float[B] t) {{ t = Neg(x) }},
                       else_branch = q () => (float[B] e) {{ e = Abs(x) }}> }}"""
    ).graph
    assert sorted(inner.name or "" for inner in subgraphs_of(graph[0])) == ["p", "q"]
    assert list(subgraphs_of(next(iter(subgraphs_of(graph[0])))[0])) == []


def test_a_piece_is_run_on_a_sample(graph: ir.Graph) -> None:
    x = value(graph, "x")
    sample = sample_of(x)
    assert sample is not None
    assert sample.shape[1] == 4
    got = run_from(x, sample, [value(graph, "y")])
    assert got is not None
    assert np.allclose(got[0], np.tanh(3 * sample), atol=1e-6)
    assert run_from(value(graph, "sum"), sample, [value(graph, "z")]) is None
    assert sample_of(ir.Value(name="n", shape=ir.Shape([2]), type=ir.TensorType(ir.DataType.INT64))) is None
    assert sample_of(ir.Value(name="v", shape=ir.Shape(["N"]), type=ir.TensorType(ir.DataType.FLOAT))) is None


PRODUCTS = f"""{HEAD}
g (float[B,2] x, int64[B] ids, float[2,3] v) => (float[B,3] y, float[B,3] z, float[B,2] r)
<float[2,3] w = {{1,2,3,4,5,6}}, float[3,2] t = {{1,2,3,4,5,6}}, float[3] b = {{1,1,1}}>
{{ y = Gemm(x, w, b)  turned = Transpose<perm = [1, 0]>(t)  z = MatMul(x, turned)  r = Gather(t, ids)
   g = MatMul(x, v)  h = Gemm<alpha = 2.0>(x, w, b) }}"""


def test_products_by_constants_as_rows() -> None:
    graph = parse(PRODUCTS).graph
    by_w, by_t = constant_matrix(maker(graph, "y")), constant_matrix(maker(graph, "z"))
    assert isinstance(by_w, ConstantMatrix)
    assert isinstance(by_t, ConstantMatrix)
    assert (by_w.name, by_w.size, by_w.bias) == ("w", 6, value(graph, "b"))
    assert by_w.rows.read().tolist() == [[1, 4], [2, 5], [3, 6]]
    assert by_t.rows.read().tolist() == [[1, 2], [3, 4], [5, 6]]
    assert by_t.removed == (maker(graph, "z"), maker(graph, "turned"))
    assert constant_matrix(maker(graph, "g")) == "its second operand is not a constant"
    assert constant_matrix(maker(graph, "h")) == "it is a Gemm with a factor or a transposed first operand"
    assert constant_matrix(maker(graph, "r")) is None
    half = constant_matrix(maker(graph, "y"), (ir.DataType.FLOAT16,))
    assert half == "its second operand is a matrix of float"


def test_a_table_that_rows_are_taken_from() -> None:
    graph = parse(PRODUCTS).graph
    found = constant_table(maker(graph, "r"))
    assert found is not None
    assert (found[0], found[1].shape) == ("t", (3, 2))
    assert constant_table(maker(graph, "y")) is None


@pytest.mark.parametrize(
    ("globs", "fits"), [("*", True), ("", False), ("head, model.*", True), ("model", False)]
)
def test_names_are_matched_whole(globs: str, fits: bool) -> None:
    assert name_matches("model.layers.0", globs) is fits


def test_an_initializer_says_what_it_holds() -> None:
    made = initializer("w", ir.tensor(np.zeros((2, 3), np.float16)))
    assert (made.name, made.dtype, list(made.shape or ())) == ("w", ir.DataType.FLOAT16, [2, 3])
    assert made.const_value is not None
    assert made.graph is None
