"""Old files: what comes out at which opset, and that it computes the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from graphopt.ir import check_structure, load_model, parse
from graphopt.pipeline import Context, RunHooks, RunResult
from graphopt.plugins import load_recipe, registry, run_recipe
from graphopt.recipes import Budget, Recipe, Step
from graphopt.testing import outputs, session
from graphopt.verify import EditVerifier

X = "(float[B,3,4] x) => (float[N,M,K] y)"
ROW = "(float[B,4] x) => (float[N,M] y)"
PICTURE = "(float[B,2,5,5] x) => (float[N,M,H,W] y)"
SCALES = "s = Constant<value = float[4] {1.0, 1.0, %s, %s}>()"

FORMS = {
    "softmax over two axes": (7, X, "y = Softmax(x)"),
    "softmax over all axes": (12, X, "y = Softmax<axis = 0>(x)"),
    "log softmax": (11, X, "y = LogSoftmax<axis = 1>(x)"),
    "hardmax over two axes": (12, X, "y = Hardmax<axis = 1>(x)"),
    "dropout": (7, ROW, "y = Dropout<ratio = 0.3>(x)"),
    "dropout of opset 12": (12, ROW, "r = Constant<value = float {0.3}>()  y = Dropout(x, r)"),
    "clip": (10, ROW, "y = Clip<min = -0.5>(x)"),
    "pad": (10, ROW, 'y = Pad<pads = [0, 1, 0, 2], mode = "reflect">(x)'),
    "slice": (9, ROW, "y = Slice<starts = [1], ends = [1000], axes = [1]>(x)"),
    "top k": (9, ROW, "y, i = TopK<k = 2, axis = 1>(x)"),
    "squeeze": (12, ROW, "u = Unsqueeze<axes = [0, 2]>(x)  y = Squeeze<axes = [-2, 0]>(u)"),
    "sums": (12, X, "y = ReduceSum<axes = [-2]>(x)"),
    "means": (17, X, "y = ReduceMean<axes = [1]>(x)"),
    "split": (12, ROW, "y, z = Split<axis = 1, split = [1, 3]>(x)"),
    "nearest upsampling": (7, PICTURE, "y = Upsample<scales = [1.0, 1.0, 2.7, 1.3]>(x)"),
    "linear upsampling": (9, PICTURE, f'{SCALES % (1.5, 2.0)}  y = Upsample<mode = "linear">(x, s)'),
    "nearest enlarging": (10, PICTURE, f"{SCALES % (1.3, 2.7)}  y = Resize(x, s)"),
    "nearest shrinking": (10, PICTURE, f"{SCALES % (0.4, 0.75)}  y = Resize(x, s)"),
    "linear resizing": (10, PICTURE, f'{SCALES % (0.6, 1.3)}  y = Resize<mode = "linear">(x, s)'),
    "batch norm": (
        7,
        "(float[B,3,4] x, float[3] s, float[3] b, float[3] m) => (float[B,3,4] y)",
        "v = Exp(m)  y = BatchNormalization(x, s, b, m, v)",
    ),
    "pooling before attention": (
        10,
        PICTURE,
        """p = AveragePool<kernel_shape = [2, 2], strides = [2, 2], ceil_mode = 1>(x)
        y = Softmax<axis = 3>(p)""",
    ),
    "scatter": (
        9,
        "(float[3,4] x, float[1,2] u) => (float[3,4] y)",
        "i = Constant<value = int64[1,2] {1, 0}>()  y = Scatter<axis = 1>(x, i, u)",
    ),
    "LSTM": (
        7,
        "(float[5,B,4] x, float[1,12,4] w, float[1,12,3] r) => (float[5,1,B,3] y)",
        "y = LSTM<hidden_size = 3>(x, w, r)",
    ),
    "a loop": (
        11,
        "(float[4] x) => (float[4] y)",
        """n = Constant<value = int64 {3}>()  yes = Constant<value = bool {1}>()
        y = Loop<body = b (int64 i, bool go, float[4] a) => (bool on, float[4] s) {
            on = Identity(go)  u = Unsqueeze<axes = [0]>(a)  d = Squeeze<axes = [0]>(u)  s = Add(d, x) }
        >(n, yes, x)""",
    ),
    "branches": (
        11,
        "(bool c, float[4] x) => (float[4] y)",
        """u = Unsqueeze<axes = [0]>(x)  z = Squeeze<axes = [0]>(u)
        y = If(c)<
            then_branch = t () => (float[4] a) { v = Unsqueeze<axes = [0]>(z)  a = Squeeze<axes = [0]>(v) },
            else_branch = e () => (float[4] b) { w = Unsqueeze<axes = [0]>(x)  b = Squeeze<axes = [0]>(w) }
        >""",
    ),
    "an output that is an input": (12, "(float[B,4] x) => (float[B,4] x, float[B,4] y)", "y = Relu(x)"),
}
BELOW = {
    "pooling": (
        10,
        18,
        PICTURE,
        "y = AveragePool<kernel_shape = [2, 2], strides = [2, 2], ceil_mode = 1>(x)",
        "from opset 19 on AveragePool takes the target several times as long",
    ),
    "no kernel from 22 on": (7, 21, PICTURE, "y = GlobalLpPool(x)", "no kernel for it at version 23"),
    "regions": (
        10,
        21,
        "(float[1,2,5,5] x) => (float[N,M,H,W] y)",
        """r = Constant<value = float[1,4] {0.0, 0.0, 7.0, 7.0}>()  b = Constant<value = int64[1] {0}>()
        y = RoiAlign<output_height = 2, output_width = 2>(x, r, b)""",
        "ai.onnx::RoiAlign",
    ),
    "a mask of dropout": (
        10,
        11,
        "(float[B,4] x) => (float[B,4] y, bool[B,4] m)",
        "y, m = Dropout(x)",
        "mask",
    ),
    "unknown scales": (
        10,
        10,
        "(float[1,2,5,5] x, float[4] s) => (float[N,M,H,W] y)",
        "y = Resize(x, s)",
        "scales that are not known",
    ),
    "a scan over batches": (
        8,
        8,
        "(float[1,2] s, float[1,3,2] x) => (float[1,2] t, float[1,3,2] y)",
        """t, y = Scan<num_scan_inputs = 1, body = b (float[2] a, float[2] i) => (float[2] o, float[2] r) {
            o = Add(a, i)  r = Identity(o) }>(, s, x)""",
        "Scan goes over batches at opset 8",
    ),
}


@pytest.fixture(scope="module")
def verifier() -> Iterator[EditVerifier]:
    with EditVerifier() as made:
        yield made


def source(opset: int, signature: str, body: str) -> ir.Model:
    return parse(f'<ir_version: 7, opset_import: ["" : {opset}]> g {signature} {{ {body} }}')


def upgraded(model: ir.Model, verifier: EditVerifier | None = None) -> tuple[Context, RunResult]:
    context = Context(model, target=registry.resolve("target", "cpu", registry.targets())())
    hooks = RunHooks(verifier)
    return context, run_recipe(model, Recipe("test", "", Budget(), (Step("upgrade"),)), context, hooks=hooks)


def feeds(model: ir.Model) -> dict[str, np.ndarray[Any, Any]]:
    rng = np.random.default_rng(0)
    made: dict[str, np.ndarray[Any, Any]] = {}
    for value in model.graph.inputs:
        assert value.name is not None
        assert value.shape is not None
        shape = [dim if isinstance(dim, int) else 2 for dim in value.shape]
        made[value.name] = rng.standard_normal(shape).astype(value.dtype.numpy() if value.dtype else None)
    return made


def assert_alike(before: ir.Model, after: ir.Model, given: Mapping[str, np.ndarray[Any, Any]]) -> None:
    left = {value.name: given[value.name or ""] for value in after.graph.inputs if value.name}
    expected, got = outputs(session(before), given), outputs(session(after), left)
    for name, array in expected.items():
        np.testing.assert_allclose(got[name], array, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_a_form_of_an_older_opset_means_the_same(form: str, verifier: EditVerifier) -> None:
    model = source(*FORMS[form])
    context, result = upgraded(model, verifier)

    assert context.opset == 23, result.records[0].near_misses
    assert [edit.verdict for edit in result.records[0].edits] == ["proven"]
    assert check_structure(model) == []
    assert context.notes == []
    assert_alike(source(*FORMS[form]), model, feeds(model))


@pytest.mark.parametrize("y", ["Relu(x)", ""])
def test_an_output_that_is_a_weight_stays(y: str, verifier: EditVerifier) -> None:
    outputs_too, body = (", float[4] y", f"y = {y}") if y else ("", "z = Relu(x)")
    model = parse(f"""<ir_version: 7, opset_import: ["" : 12]>
        g (float[4] x) => (float[4] w{outputs_too}) <float[4] w = {{1, 2, 3, 4}}> {{ {body} }}""")
    context, result = upgraded(model, verifier)

    assert context.opset == 23
    assert [edit.verdict for edit in result.records[0].edits] == ["proven"]
    assert check_structure(model) == []
    assert outputs(session(model), feeds(model))["w"].tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize("form", BELOW)
def test_what_cannot_be_at_the_newest_opset_goes_as_high_as_it_can(form: str, verifier: EditVerifier) -> None:
    opset, reached, *graph, reason = BELOW[form]
    model = source(opset, *graph)
    context, result = upgraded(model, verifier)

    assert context.opset == reached
    moved = "goes up to" if reached > opset else "stays at"
    assert f"The graph {moved} opset {reached}, and passes for newer ones are left out: " in context.notes[0]
    assert reason in context.notes[0]
    assert any(reason in miss.reason for miss in result.records[0].near_misses)
    given = feeds(model) | ({"s": np.asarray([1, 1, 2, 2], np.float32)} if form == "unknown scales" else {})
    assert_alike(source(opset, *graph), model, given)


def test_what_the_converter_gets_wrong_is_taken_back_and_a_lower_opset_tried(
    verifier: EditVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if nothing were known of Hardmax, whose default axis changes at opset 13."""
    monkeypatch.setattr("graphopt_passes._convert._CHANGES", ())
    for opset, reached in ((12, 12), (7, 12)):
        model = source(opset, X, "a = Dropout(x)  y = Hardmax<axis = 1>(a)")
        context, result = upgraded(model, verifier)

        assert context.opset == reached
        assert "opset 23 gives other results" in context.notes[0]
        outcomes = [(edit.outcome, edit.verdict) for edit in result.records[0].edits]
        assert outcomes[0] == ("rolled back", "failed")
        assert ("applied", "proven") in outcomes or reached == opset
        assert_alike(source(opset, X, "y = Hardmax<axis = 1>(x)"), model, feeds(model))


@pytest.mark.parametrize("node", ["RandomNormal<shape = [4]>()", "RandomUniformLike(x)", "Bernoulli(a)"])
def test_what_draws_random_numbers_goes_up_unproven(node: str, verifier: EditVerifier) -> None:
    model = source(15, "(float[4] x) => (float[4] y)", f"a = Abs(x)  y = {node}")
    context, result = upgraded(model, verifier)

    assert context.opset == 21
    assert [(edit.outcome, edit.verdict) for edit in result.records[0].edits] == [("applied", "unproven")]
    assert outputs(session(model), feeds(model))["y"].shape == (4,)


def branch(name: str, operator: str, weight: float) -> onnx.GraphProto:
    values = np.full(400, weight, np.float32)
    return helper.make_graph(
        [
            helper.make_node("Unsqueeze", ["w"], [f"{name}_u"], axes=[0]),
            helper.make_node(operator, ["x", f"{name}_u"], [f"{name}_y"]),
        ],
        name,
        [],
        [helper.make_tensor_value_info(f"{name}_y", TensorProto.FLOAT, [1, 400])],
        [numpy_helper.from_array(values, "w")],
    )


@pytest.mark.parametrize("where", ["in the file", "beside it"])
def test_weights_of_branches_come_along(tmp_path: Path, verifier: EditVerifier, where: str) -> None:
    """Both branches call theirs the same."""
    node = helper.make_node(
        "If", ["c"], ["y"], then_branch=branch("t", "Add", 2), else_branch=branch("e", "Mul", 3)
    )
    graph = helper.make_graph(
        [node],
        "g",
        [
            helper.make_tensor_value_info("c", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 400]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 400])],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=7)
    path = tmp_path / "model.onnx"
    onnx.save(proto, path, save_as_external_data=where == "beside it", size_threshold=0)
    model = load_model(path)
    context, result = upgraded(model, verifier)

    assert context.opset == 23
    assert [edit.verdict for edit in result.records[0].edits] == ["proven"]
    assert check_structure(model) == []
    x = np.ones((1, 400), np.float32)
    assert outputs(session(model), {"c": np.asarray(True), "x": x})["y"].max() == 3
    assert outputs(session(model), {"c": np.asarray(False), "x": x + 1})["y"].max() == 6


@pytest.mark.parametrize("form", FORMS)
def test_passes_that_run_below_opset_13_know_the_older_forms(form: str, verifier: EditVerifier) -> None:
    """All inputs but the first are constants, so that there is something to fold."""
    opset, *graph = FORMS[form]
    model = source(opset, *graph)
    given = feeds(model)
    for value in list(model.graph.inputs)[1:]:
        model.graph.inputs.remove(value)
        value.const_value = ir.tensor(given[value.name or ""], name=value.name)
        model.graph.register_initializer(value)
    names = [name for name, cls in registry.passes().items() if opset in cls.opsets and name != "upgrade"]
    assert "dead-code" in names
    steps = tuple(Step(name) for name in sorted(names))
    hooks = RunHooks(verifier)
    run_recipe(model, Recipe("test", "", Budget(), steps), Context(model), hooks=hooks)

    assert model.opset_imports[""] == opset
    assert_alike(source(opset, *graph), model, given)


def test_passes_that_need_a_newer_opset_are_left_out() -> None:
    model = source(10, "(float[B,4] x) => (float[B,4] y, bool[B,4] m)", "i = Identity(x)  y, m = Dropout(i)")
    target = registry.resolve("target", "cpu", registry.targets())()
    recipe = load_recipe("lossless")
    result = run_recipe(model, recipe.expanded(target.lowering(recipe)), Context(model, target=target))

    left_out = {record.step for record in result.records if record.skipped}
    assert {"raise-attention", "raise-gelu", "simplify-shapes", "pack-qkv"} <= left_out
    assert {"remove-noops", "fold-constants", "cse", "dead-code", "tie-weights"}.isdisjoint(left_out)
    assert [node.op_type for node in model.graph] == ["Dropout"]
