"""Products of matrices with static scales, for targets that have no other integers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from graphopt_passes._gptq import Hessian, rounded_outputs
from graphopt_passes._split_channels import parts_of, split_channels
from graphopt_targets.cpu import CpuTarget
from graphopt_targets.cpu._capabilities import CpuCapabilities

from graphopt.calibrate import CalibrationData, from_arrays
from graphopt.families import Case, InputDomain
from graphopt.interface import Interface
from graphopt.ir import const_of, infer_types, initializer, parse
from graphopt.pipeline import Context
from graphopt.plugins import run_recipe
from graphopt.recipes import Budget, Recipe, Step
from tests.passes._vision import loaded

WIDTH = 64
NET = f"""<ir_version: 10, opset_import: ["" : 23]>
g (float[N, S, {WIDTH}] x) => (float[N, S, {WIDTH}] y)
{{
  n = LayerNormalization<axis = -1>(x, gamma, beta)
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
    gamma[3], beta = 40.0, np.zeros(WIDTH, np.float32)
    beta[3] = 90.0
    weights = {
        "gamma": gamma,
        "beta": beta,
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
    model: ir.Model,
    target: Any,
    *,
    data: bool = True,
    states: Any = None,
    smooth: bool = True,
    rounding: str = "nearest",
    domain: InputDomain | None = None,
) -> Context:
    calibration: CalibrationData | None = None
    if data:
        calibration = from_arrays("samples", [feeds(1)], Interface.of(model))
    context = Context(model, target=target, calibration=calibration, states=states or {}, domain=domain)
    steps = [Step("smooth-activations")] * smooth
    static = Step("quantize-static", {"products": "matrices", "damage": 1.0, "rounding": rounding})
    run_recipe(model, Recipe("test", "", Budget(), (*steps, static, Step("quantize-dynamic"))), context)
    return context


def smoothed() -> ir.Model:
    """The net, its channels evened out for scales that are known beforehand, in floats."""
    model = net()
    calibration = from_arrays("samples", [feeds(1)], Interface.of(model))
    context = Context(model, target=Beforehand(), calibration=calibration, states={})
    run_recipe(model, Recipe("test", "", Budget(), (Step("smooth-activations"),)), context)
    return model


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


def test_what_a_norm_makes_is_moved_to_its_middle() -> None:
    model = smoothed()
    (middle,) = (const_of(node.inputs[1]) for node in model.graph if node.op_type == "Sub")
    assert middle is not None
    assert middle[3] == pytest.approx(90, abs=30)
    assert np.abs(np.delete(middle, 3)).max() < 2
    expected, got = (loaded(m).run(None, feeds(2))[0] for m in (net(), model))
    assert np.abs(expected - got).max() < 1e-4 * expected.std()


def test_weights_are_rounded_for_what_they_are_multiplied_by() -> None:
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((512, 8)) @ rng.standard_normal((8, 64))).astype(np.float32)
    x += rng.standard_normal(x.shape).astype(np.float32) / 10
    weight = rng.standard_normal((32, 64)).astype(np.float32)
    scales = np.abs(weight).max(1) / 127
    hessian = Hessian.of(x[:256].T @ x[:256], x[256:].T @ x[256:], print)
    assert hessian is not None
    got = rounded_outputs(weight, scales, hessian)
    assert got.dtype == np.int8
    error, nearest = (
        np.square(x @ (integers * scales[:, None] - weight).T).sum()
        for integers in (got, np.rint(weight / scales[:, None]))
    )
    assert error < nearest / 2


class OneLoud(InputDomain):
    """Calls in which the number that the norm enlarges is far larger than the others, as in no sample."""

    def cases(self, rng: np.random.Generator) -> Iterator[Case]:
        x = rng.standard_normal((1, 2, WIDTH)).astype(np.float32)
        x[..., 3] = 100
        yield Case("one loud", {"x": x}, {})


def test_ranges_hold_for_what_is_legal_and_no_sample() -> None:
    x = next(OneLoud().cases(np.random.default_rng(0))).feeds["x"]
    off = []
    for domain in (None, OneLoud()):
        model = net()
        made(model, Beforehand(), domain=domain)
        expected, got = (loaded(m).run(None, {"x": x})[0].ravel() for m in (net(), model))
        off.append(np.linalg.norm(got - expected) / np.linalg.norm(expected))
    assert off[1] < off[0] / 4


def test_a_recipe_may_ask_for_that() -> None:
    plain, learned = net(), net()
    made(plain, Beforehand())
    made(learned, Beforehand(), rounding="gptq")
    integers = [
        {v.name: v.const_value.numpy() for v in m.graph.initializers.values() if v.name.endswith("/int8")}
        for m in (plain, learned)
    ]
    assert integers[0].keys() == integers[1].keys()
    assert any((array != integers[1][name]).any() for name, array in integers[0].items())
    assert cosine(learned) > 0.998


ATTENTION = """<ir_version: 10, opset_import: ["" : 23]>
g (float[B, S, 2] x) => (float[B, S, 2] y)
<float[2, 2] a = {1, 2, 3, 4}, float[2, 2] b = {2, 1, 0, 1}, float[2, 2] c = {1, 0, 1, 1}>
{
  q = MatMul(x, a)  k = MatMul(x, b)  v = MatMul(x, c)
  y = Attention<q_num_heads = 1, kv_num_heads = 1>(q, k, v)
}
"""


class Apart(CpuTarget):
    """The cpu target, were three products as fast as one."""

    def capabilities(self) -> Any:
        class Three(CpuCapabilities):
            def packed_projections(self) -> bool:
                return False

        return Three()


@pytest.mark.parametrize(
    ("target", "states", "products"),
    [(Apart(), {}, 3), (Apart(), {"past": "present"}, 1), (CpuTarget(), {}, 1)],
)
def test_projections_stay_apart_where_the_target_says_so(
    target: Any, states: dict[str, str], products: int
) -> None:
    model = parse(ATTENTION)
    infer_types(model)
    context = Context(model, target=target, states=states)
    run_recipe(model, Recipe("test", "", Budget(), (Step("pack-qkv"),)), context)
    assert sum(node.op_type == "MatMul" for node in model.graph) == products


def test_a_large_channel_behind_gelu_is_there_in_parts() -> None:
    model = smoothed()
    widths = [tuple(v.shape.numpy()) for v in model.graph.initializers.values() if len(v.shape) == 2]
    assert sorted(widths) == [(WIDTH, 144), (144, WIDTH)]
    assert [node.op_type for node in model.graph].count("Gelu") == 1
    expected, got = (loaded(m).run(None, feeds(2))[0] for m in (net(), model))
    assert np.abs(expected - got).max() < 1e-4 * expected.std()


def test_the_largest_part_is_split_next() -> None:
    assert parts_of(np.asarray([1, 9, 2], np.float32), 4).tolist() == [1, 5, 1]
    assert parts_of(np.asarray([4, 9, 2], np.float32), 3).tolist() == [2, 3, 1]


SMALL = """<ir_version: 10, opset_import: ["" : 23]>
g (float[N, 2] x) => (float[N, 2] y) <float[2, 2] up = {1, 2, 3, 4}, float[2, 2] down = {1, 2, 3, 4}>
{ w = MatMul(x, up)  h = Gelu(w)  y = MatMul(h, down) }
"""


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("y = MatMul(h, down)", "z = MatMul(h, down)  y = Add(z, h)", "Add reads 'h'"),
        ("w = MatMul(x, up)", "w = Neg(x)", "Neg is no product by a constant"),
        ("y = MatMul(h, down)", "z = MatMul(h, down)  y = MatMul(z, up)", "weight up is used elsewhere"),
    ],
)
def test_what_is_not_between_two_products_alone_is_not_split(old: str, new: str, reason: str) -> None:
    model = parse(SMALL.replace(old, new))
    infer_types(model)
    gelu = next(node for node in model.graph if node.op_type == "Gelu")
    found = split_channels(gelu, np.asarray([2, 1]), np.ones(2, np.float32))
    assert isinstance(found, str)
    assert reason in found


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
