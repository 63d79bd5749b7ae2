"""Pieces cut out of a graph compute what they computed in it."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.ir import (
    check_structure,
    evaluate,
    evaluator,
    extract,
    graph_hash,
    infer_types,
    load_model,
    parse,
)

SOURCE = """
<ir_version: 10, opset_import: ["" : 23]>
g (float[B,4] x, float[B,4] unused, bool c, float[4] d) => (float[B,4] y)
<float[4] w = {1.0, 2.0, 3.0, 4.0}, float[4] d = {1.0, 1.0, 1.0, 1.0}, float[4] other = {0.0, 0.0, 0.0, 0.0}>
{
  a = Mul(x, w)
  r, s = Split<num_outputs = 2, axis = 1>(a)
  b = If(c) <then_branch = t () => (float[B,4] p) { n = Neg(a) p = Add(n, d) },
             else_branch = e () => (float[B,4] q) { q = Add(a, other) }>
  late = Add(unused, other)
  y = Add(b, late)
}
"""


@pytest.fixture
def model():
    model = parse(SOURCE)
    infer_types(model)
    return model


@pytest.fixture
def x():
    return np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)


def value(model, name):
    return next(v for node in model.graph for v in node.outputs if v.name == name)


def test_a_piece_has_only_what_it_needs(model, x):
    piece = extract(model.graph, [value(model, "s"), value(model, "a")])
    assert check_structure(piece) == []
    assert [v.name for v in piece.graph.inputs] == ["x"]
    assert [v.name for v in piece.graph.outputs] == ["s", "a"]
    assert list(piece.graph.initializers) == ["w"]
    assert [node.op_type for node in piece.graph] == ["Mul", "Split"]
    s, a = evaluate(piece, {"x": x, "unused": x})
    np.testing.assert_array_equal(a, x * np.float32([1, 2, 3, 4]))
    np.testing.assert_array_equal(s, a[:, 2:])


def test_what_subgraphs_capture_comes_along_and_defaults_stay(model, x):
    piece = extract(model.graph, [value(model, "b")])
    assert check_structure(piece) == []
    assert [v.name for v in piece.graph.inputs] == ["x", "c", "d"]
    assert set(piece.graph.initializers) == {"w", "d", "other"}
    a = x * np.float32([1, 2, 3, 4])
    feeds = {"x": x, "c": np.array(True)}
    np.testing.assert_array_equal(evaluate(piece, feeds)[0], 1 - a)
    np.testing.assert_array_equal(evaluate(piece, feeds | {"d": np.zeros(4, np.float32)})[0], -a)
    np.testing.assert_array_equal(evaluate(piece, feeds | {"c": np.array(False)})[0], a)


def test_a_piece_of_a_subgraph_takes_outer_values_as_inputs(model, x):
    branch = model.graph[2].attributes["then_branch"].as_graph()
    piece = extract(branch, [branch[1].outputs[0]], model.opset_imports)
    assert [v.name for v in piece.graph.inputs] == ["a"]
    assert list(piece.graph.initializers) == ["d"]
    np.testing.assert_array_equal(evaluate(piece, {"a": x})[0], 1 - x)


def test_the_graph_is_left_as_it_is(model, x):
    before = graph_hash(model)
    piece = extract(model.graph, [value(model, "a")])
    piece.graph.outputs[0].shape = None
    piece.graph[0].outputs[0].name = "renamed"
    evaluate(extract(model.graph, [value(model, "a")]), {"x": x})
    assert graph_hash(model) == before
    assert check_structure(model) == []


def test_a_piece_runs_at_shapes_its_outputs_do_not_declare(model):
    for output in model.graph.outputs:
        output.shape = model.graph.initializers["w"].shape
    piece = extract(model.graph, [model.graph.outputs[0]])
    two = np.ones((2, 4), np.float32)
    assert evaluate(piece, {"x": two, "unused": two, "c": np.array(True)})[0].shape == (2, 4)
    assert piece.graph.outputs[0].shape is not None


def test_a_piece_opened_once_gives_for_each_feeds_what_it_gives_alone(model):
    piece = extract(model.graph, [model.graph.outputs[0]])
    run, rng = evaluator(piece), np.random.default_rng(1)
    for rows, chosen in ((2, True), (5, False), (1, True), (2, False)):
        feeds = {n: rng.standard_normal((rows, 4)).astype(np.float32) for n in ("x", "unused")}
        feeds["c"] = np.array(chosen)
        np.testing.assert_array_equal(run(feeds)[0], evaluate(piece, feeds)[0])


def test_lazy_weights_are_read_when_the_piece_runs(saved, weight):
    model = load_model(saved)
    x = np.eye(64, dtype=np.float32)
    np.testing.assert_array_equal(evaluate(extract(model.graph, [value(model, "s")]), {"x": x})[0], weight)


def test_a_piece_can_be_cut_off_inside_the_graph(model, x):
    inner = model.graph[0].outputs[0]
    piece = extract(model.graph, [model.graph.outputs[0]], cut=[inner])
    assert inner.name in [v.name for v in piece.graph.inputs]
    assert model.graph[0].name not in [node.name for node in piece.graph]
