"""Bias correction: what a rounded weight is off by on average goes into the bias, where that pays."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from graphopt.calibrate import CalibrationData
from graphopt.ir import to_proto
from graphopt.pipeline import Context
from graphopt.plugins import run_recipe
from graphopt.recipes import Budget, Recipe, Step
from graphopt.runtime import session_of
from tests.passes._compressed import built, normal

Array = np.ndarray[Any, Any]
GEMM = "y = Gemm(x, w, b)"
ADD = "p = MatMul(x, w) y = Add(b, p)"
NONE = "y = MatMul(x, w)"
NORMED = "n = LayerNormalization(x, g, h) p = MatMul(n, w) y = Add(p, b)"
FOR_OTHERS = "p = MatMul(x, w) z = Add(p, b) y = Mul(z, p)"


def shifted(calls: int, by: float) -> list[Array]:
    """Activations whose mean is not zero."""
    return [normal(50, 64, seed=seed) + np.float32(by) for seed in range(calls)]


def model_of(body: str) -> ir.Model:
    text = """<ir_version: 10, opset_import: ["" : 23]>
    g (float[B,64] x) => (float[B,48] y)
    <float[64,48] w = ["location": "absent"], float[48] b = ["location": "absent"],
     float[64] g = ["location": "absent"], float[64] h = ["location": "absent"]> { BODY }"""
    made = {"w": normal(64, 48), "b": normal(48, seed=3), "g": normal(64, seed=4), "h": normal(64, seed=5)}
    return built(text.replace("BODY", body), made)


def rounded(body: str, calls: list[Array], *, corrected: bool = True) -> tuple[ir.Model, Context]:
    model = model_of(body)
    data = CalibrationData("test", "digest", tuple({"x": x} for x in calls), 50 * len(calls))
    context = Context(model, calibration=data if calls else None)
    options = {"smallest": 1, "block_size": 32, "bits": 2, "accuracy_level": 0, "bias_correction": corrected}
    run_recipe(model, Recipe("test", "", Budget(), (Step("quantize-weights", options),)), context)
    return model, context


def answers(model: ir.Model, x: Array) -> Array:
    (y,) = session_of(to_proto(model).SerializeToString(), threads=1).run(None, {"x": x})
    return np.asarray(y)


def operators(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


@pytest.mark.parametrize("body", [GEMM, ADD, NONE, FOR_OTHERS])
def test_what_is_off_on_average_is_taken_away(body: str) -> None:
    calls, new = shifted(8, 2.0), np.concatenate(shifted(30, 2.0)[20:])
    exact = answers(model_of(body), new)

    off = {c: answers(rounded(body, calls, corrected=c)[0], new) - exact for c in (True, False)}

    assert np.square(off[True]).mean() < 0.7 * np.square(off[False]).mean()
    if body != FOR_OTHERS:
        assert np.abs(off[True].mean(0)).max() < 0.2 * np.abs(off[False].mean(0)).max()


def test_it_goes_into_the_bias_there_is_and_into_a_new_one_where_there_is_none() -> None:
    assert operators(rounded(GEMM, shifted(8, 2.0))[0]) == ["MatMulNBits", "Add"]
    assert operators(rounded(ADD, shifted(8, 2.0))[0]) == ["MatMulNBits", "Add"]
    assert operators(rounded(NONE, shifted(8, 2.0))[0]) == ["MatMulNBits", "Add"]
    assert operators(rounded(FOR_OTHERS, shifted(8, 2.0))[0]) == ["MatMulNBits", "Add", "Add", "Mul"]


def test_no_bias_is_added_for_little() -> None:
    assert operators(rounded(NONE, shifted(8, 0.1))[0]) == ["MatMulNBits"]


def test_a_mean_that_other_calls_do_not_have_is_left() -> None:
    """One call in four is held out: these have the opposite mean."""
    calls = [x if index % 4 < 3 else -x for index, x in enumerate(shifted(8, 2.0))]
    held = rounded(ADD, calls)[0].graph.initializers["b"].const_value

    assert held is not None
    np.testing.assert_array_equal(held.numpy(), normal(48, seed=3))


def test_without_data_the_mean_behind_a_norm_is_its_bias() -> None:
    x = np.concatenate(shifted(8, 0.0))
    exact = answers(model_of(NORMED), x)

    (corrected, context), (plain, _) = (rounded(NORMED, [], corrected=c) for c in (True, False))

    means = [np.abs((answers(model, x) - exact).mean(0)).max() for model in (corrected, plain)]
    assert means[0] < 0.4 * means[1]
    assert context.notes == [
        "quantize-weights: biases are corrected behind LayerNormalization alone: "
        "there is nothing to calibrate on"
    ]
