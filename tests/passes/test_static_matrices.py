"""Products of matrices with static scales, for targets that have no other integers."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from graphopt_targets.cpu import CpuTarget
from graphopt_targets.cpu._capabilities import CpuCapabilities

from graphopt.calibrate import CalibrationData, from_arrays
from graphopt.interface import Interface
from graphopt.ir import infer_types, initializer, parse
from graphopt.pipeline import Context
from graphopt.plugins import run_recipe
from graphopt.recipes import Budget, Recipe, Step
from tests.passes._vision import loaded

WIDTH = 64
NET = f"""<ir_version: 10, opset_import: ["" : 23]>
g (float[N, S, {WIDTH}] x) => (float[N, S, {WIDTH}] y)
{{
  n = LayerNormalization<axis = -1>(x, gamma)
  wide = MatMul(n, up)
  half = Gelu(wide)
  y = MatMul(half, down)
}}
"""


class Beforehand(CpuTarget):
    """The cpu target, were its integers those of OpenVINO."""

    def capabilities(self) -> Any:
        class Static(CpuCapabilities):
            def static_scales(self) -> bool:
                return True

        return Static()


def net() -> ir.Model:
    model, rng = parse(NET), np.random.default_rng(0)
    gamma = np.ones(WIDTH, np.float32)
    gamma[3] = 40.0
    weights = {
        "gamma": gamma,
        "up": rng.standard_normal((WIDTH, 128)).astype(np.float32) / 8,
        "down": rng.standard_normal((128, WIDTH)).astype(np.float32) / 8,
    }
    weights["up"][:, 5] *= 30
    for name, array in weights.items():
        value = initializer(name, ir.tensor(array))
        (old,) = {i for node in model.graph for i in node.inputs if i is not None and i.name == name}
        for node, index in tuple(old.uses()):
            node.replace_input_with(index, value)
        model.graph.register_initializer(value)
    infer_types(model)
    return model


def feeds(seed: int) -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(seed).standard_normal((8, 16, WIDTH)).astype(np.float32)}


def made(
    model: ir.Model, target: Any, *, data: bool = True, states: Any = None, smooth: bool = True
) -> Context:
    calibration: CalibrationData | None = None
    if data:
        calibration = from_arrays("samples", [feeds(1)], Interface.of(model))
    context = Context(model, target=target, calibration=calibration, states=states or {})
    steps = [Step("smooth-activations")] * smooth
    static = Step("quantize-static", {"products": "matrices", "damage": 1.0})
    run_recipe(model, Recipe("test", "", Budget(), (*steps, static, Step("quantize-dynamic"))), context)
    return context


def cosine(model: ir.Model) -> float:
    expected, got = (loaded(m).run(None, feeds(2))[0].ravel() for m in (net(), model))
    return float(expected @ got / np.linalg.norm(expected) / np.linalg.norm(got))


def test_each_product_reads_integers_and_a_weight_of_integers() -> None:
    model = net()
    made(model, Beforehand())

    kinds = Counter(node.op_type for node in model.graph)
    assert (kinds["QuantizeLinear"], kinds["DequantizeLinear"], kinds["MatMul"]) == (2, 4, 2)
    for node in model.graph:
        if node.op_type == "MatMul":
            assert [value.producer().op_type for value in node.inputs] == ["DequantizeLinear"] * 2
    assert cosine(model) > 0.998


def test_what_gelu_makes_is_evened_out() -> None:
    plain, smooth = net(), net()
    made(plain, Beforehand(), smooth=False)
    made(smooth, Beforehand())

    assert 1 - cosine(smooth) < (1 - cosine(plain)) / 2


@pytest.mark.parametrize(
    ("target", "options"),
    [(CpuTarget(), {}), (Beforehand(), {"data": False}), (Beforehand(), {"states": {"x": "y"}})],
    ids=["scales as it runs", "nothing to calibrate on", "a cache"],
)
def test_other_models_and_targets_have_none(target: Any, options: dict[str, Any]) -> None:
    model = net()
    context = made(model, target, **options)

    assert not any(node.op_type == "QuantizeLinear" for node in model.graph)
    assert any("products stay in floats" in note for note in context.notes) is (options == {"data": False})


def test_where_scales_come_beforehand_none_is_found_at_run_time() -> None:
    model = net()
    made(model, Beforehand())

    assert not any(node.op_type == "DynamicQuantizeLinear" for node in model.graph)
