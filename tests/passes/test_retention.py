"""Which products stay in floats: every output counts, up to where things are chosen, and time as measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from graphopt_passes._ends import ends_of
from graphopt_passes._placement import placed, products_of
from graphopt_passes._retention import Saved, worst
from graphopt_passes.quantize_static import QuantizeStatic
from graphopt_targets.cpu import CpuTarget

from graphopt.calibrate import from_arrays
from graphopt.interface import Interface
from graphopt.ir import infer_types, parse
from graphopt.pipeline import Context, Edit
from graphopt.plugins import run_recipe
from graphopt.recipes import Budget, Recipe, Step

RNG = np.random.default_rng(3)
DETECTOR = """
a = Conv(x, w)  b = Conv(a, v)  c = Conv(b, u)
flat = Reshape(c, shape)  boxes = Slice(flat, zero, four, axis)  logits = Slice(flat, four, eight, axis)
scores = Sigmoid(logits)
"""
WEIGHTS: dict[str, np.ndarray] = {
    **{name: RNG.standard_normal((8, 8, 1, 1)).astype(np.float32) for name in "wvu"},
    **{name: np.asarray([value], np.int64) for name, value in (("zero", 0), ("four", 4), ("eight", 8))},
    "shape": np.asarray([0, 8, 16], np.int64),
    "axis": np.asarray([1], np.int64),
    "most": np.asarray([5], np.int64),
    "three": np.asarray([3], np.int64),
}


def model(nodes: str, outputs: str, **weights: np.ndarray) -> ir.Model:
    made = parse(
        f'<ir_version: 10, opset_import: ["" : 23]>\ng (float[N,8,4,4] x) => ({outputs}) {{ {nodes} }}'
    )
    for name, array in (WEIGHTS | weights).items():
        value = ir.Value(name=name, const_value=ir.tensor(array, name=name))
        value.shape, value.type = ir.Shape(array.shape), ir.TensorType(value.const_value.dtype)
        used = [n for n in made.graph if any(v is not None and v.name == name for v in n.inputs)]
        if used:
            made.graph.register_initializer(value)
        for node in used:
            for index, old in enumerate(node.inputs):
                if old is not None and old.name == name:
                    node.replace_input_with(index, value)
    infer_types(made)
    return made


def names(values: list[ir.Value]) -> set[str]:
    return {value.name or "" for value in values}


def first(graph: ir.Graph) -> ir.Node:
    return graph.node(0)


def test_all_outputs_show_what_a_product_does() -> None:
    graph = model(DETECTOR, "float boxes, float scores").graph
    assert names(ends_of(first(graph), graph)) == {"boxes", "scores"}


def test_what_is_joined_counts_by_its_parts() -> None:
    nodes = f"{DETECTOR} all = Concat<axis = 1>(boxes, scores)  y = Transpose<perm = [0, 2, 1]>(all)"
    graph = model(nodes, "float y").graph
    assert names(ends_of(first(graph), graph)) == {"boxes", "scores"}


@pytest.mark.parametrize(
    ("tail", "outputs", "ends"),
    [
        (
            "t = Transpose<perm = [0, 2, 1]>(boxes)  y = NonMaxSuppression(t, scores, most)",
            "int64[K,3] y",
            {"t", "scores"},
        ),
        ("best, place = TopK(scores, three)  y = Mul(best, best)", "float y, int64 place", {"scores"}),
        ("y = ArgMax<axis = 1>(logits)", "int64 y", {"logits"}),
        ("m = GreaterOrEqual(logits, boxes)  y = Where(m, logits, boxes)", "float y", {"logits", "boxes"}),
        ("n = Shape(boxes)  y = Reshape(scores, n)", "float y", {"y"}),
    ],
    ids=["suppression", "largest", "index", "comparison", "sizes"],
)
def test_behind_a_choice_nothing_is_compared(tail: str, outputs: str, ends: set[str]) -> None:
    graph = model(f"{DETECTOR} {tail}", outputs).graph
    assert names(ends_of(first(graph), graph)) == ends


def decided(made: ir.Model, target: Any = None, **options: Any) -> list[str]:
    feeds = {"x": np.random.default_rng(1).standard_normal((16, 8, 4, 4)).astype(np.float32)}
    context = Context(made, target=target, calibration=from_arrays("s", [feeds], Interface.of(made)))
    run_recipe(made, Recipe("test", "", Budget(), (Step("quantize-static", options),)), context)
    found: list[str] = context.decisions["quantize-static/floats"]
    return found


LOUD = """
a = Conv(x, w)  y = Conv(a, v)
b = Conv(a, w1)  c = Conv(b, w2)  z = Sigmoid(c)
"""


def loud(factor: float) -> dict[str, np.ndarray]:
    """Weights: the second makes one channel that is `factor` times as large, and the third muffles it."""
    w1, w2 = (np.random.default_rng(s).standard_normal((8, 8, 1, 1)).astype(np.float32) for s in (5, 6))
    w1[0] *= factor
    w2[:, 0] /= factor
    return {"w1": w1, "w2": w2}


def test_a_product_that_spoils_the_second_output_alone_stays() -> None:
    assert decided(model(LOUD, "float y, float z", **loud(1))) == []
    assert decided(model(LOUD, "float y, float z", **loud(300))) == ["b/Conv", "c/Conv"]


def test_a_detector_with_its_tail_is_measured() -> None:
    """Another number of boxes is left of each: outputs of the two do not even have one shape."""
    nodes = f"{DETECTOR} t = Transpose<perm = [0, 2, 1]>(boxes)  y = NonMaxSuppression(t, scores, most)"
    assert decided(model(nodes, "int64[K,3] y")) == []


def one(name: str, *ends: ir.Value) -> ir.Node:
    return ir.Node("", "Conv", list(ends), name=name)


def test_what_does_most_for_its_time_goes_first_until_every_output_is_right() -> None:
    boxes, scores = ir.Value(name="boxes"), ir.Value(name="scores")
    slow, fast, fine = one("slow"), one("fast"), one("fine")
    damage: Mapping[ir.Node, Mapping[ir.Value, float]] = {
        slow: {boxes: 0.02, scores: 0.0},
        fast: {boxes: 0.015, scores: 0.001},
        fine: {boxes: 0.0, scores: 0.009},
    }
    saved = {slow: 3.0, fast: 1.0, fine: 1.0}
    assert worst(damage, 1.0, saved.__getitem__) == []
    assert worst(damage, 0.025, saved.__getitem__) == [fast]
    assert worst(damage, 0.0095, saved.__getitem__) == [fast, slow]
    assert worst(damage, 0.005, saved.__getitem__) == [fast, fine, slow]
    assert worst({slow: {boxes: float("nan")}}, 1.0, saved.__getitem__) == [slow]


class Clock(CpuTarget):
    """Floats take so long by the number of inputs of a convolution, integers no time."""

    def __init__(self, seconds: Mapping[int, float]) -> None:
        self._seconds = seconds

    def call_seconds(self, model: ir.Model, feeds: Mapping[str, np.ndarray]) -> float:
        (x,) = feeds.values()
        rounds = any(node.op_type == "QuantizeLinear" for node in model.graph)
        return 0.0 if rounds else self._seconds[x.shape[-1]]


def test_time_is_what_the_target_measures() -> None:
    """Of two products that do much damage, the one that saves less time stays."""
    wide, narrow = loud(300).values()
    many = {"w1": np.concatenate([wide, wide[1:]]), "w2": np.concatenate([narrow, narrow[:, 1:]], axis=1)}
    nodes = "a = Conv(x, w)  b = Conv(a, w1)  c = Conv(b, w2)  y = Sigmoid(c)"

    def left(seconds: Mapping[int, float]) -> list[str]:
        return decided(model(nodes, "float y", **many), Clock(seconds), damage=0.2)

    assert left({8: 1e-6, 15: 1.0}) == ["b/Conv"]
    assert left({8: 1.0, 15: 1e-6}) == ["c/Conv"]


def test_the_cpu_measures_floats_and_integers() -> None:
    made = model(LOUD, "float y, float z", **loud(1))
    feeds = {"x": np.ones((16, 8, 4, 4), np.float32)}
    context = Context(made, calibration=from_arrays("s", [feeds], Interface.of(made)))
    edits = {}
    pass_ = QuantizeStatic()
    chosen = {node for node, reason in products_of(made.graph) if reason is None}
    placement = placed(made.graph, chosen, lambda op_type: True)
    stream = context.stream()
    assert not isinstance(stream, str)
    work = pass_._work(placement, pass_._spans(placement, stream, context), {}, context)

    def edit(taken: Any) -> Edit:
        edits[taken.node] = work.edit(taken)[0]
        return edits[taken.node]

    saved = Saved(CpuTarget(), edit, 23)
    taken = placement.taken[0]
    saved.shapes[taken.node] = (1, 8, 4, 4)
    assert 0 < saved.of(taken) < 1
    assert len(edits) == 1
    assert saved.of(taken) == saved.of(taken)
