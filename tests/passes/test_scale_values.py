"""Scaled values: the same answers, a cache divided by factors, every edit proven, and wrong ones found."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from graphopt_passes import scale_values
from graphopt_passes._adapters import ScaledValues
from graphopt_passes._scale_search import factors_of

from graphopt.calibrate import CalibrationData
from graphopt.ir import Expr, Scaled
from graphopt.pipeline import Context, Mismatch
from graphopt.plugins import run_recipe
from graphopt.recipes import Budget, Recipe, Step
from tests.passes._canonical import Domain, Shape, canonical_decoder
from tests.passes._other_weights import FAMILIES, largest_error, verdicts, verified
from tests.passes._runs import Lowered

STEPS = ("pack-qkv", Step("scale-values", {"by": "weights"}))


@pytest.fixture
def factors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some that differ from channel to channel: those of random weights would not be worth it."""
    monkeypatch.setattr(scale_values, "steps_for", lambda *found: [group % 7 - 3 for group in found[-1]])


@pytest.mark.usefixtures("factors")
@pytest.mark.parametrize("name", FAMILIES)
def test_the_answers_are_the_same(name: str) -> None:
    """The caches, too, through the adapter; where two heads of queries share one of values as well."""
    lowered = Lowered(FAMILIES[name], *STEPS)
    assert lowered.result.records[-1].applied
    assert largest_error(lowered) < 1e-5
    assert lowered.operators == Lowered(FAMILIES[name], STEPS[0]).operators


@pytest.mark.usefixtures("factors")
def test_every_edit_is_proven() -> None:
    found = verified(Shape(layers=1, bias=True), *STEPS)
    assert verdicts(found, "scale-values") == {"proven"}


def _only_columns(source: Expr, factors: Expr, axis: int) -> Expr:
    return Scaled(source, factors, axis) if axis == 1 else source


def _only_rows(source: Expr, factors: Expr, axis: int) -> Expr:
    return Scaled(source, factors, axis) if axis == 0 else source


@pytest.mark.usefixtures("factors")
@pytest.mark.parametrize("wrong", [_only_columns, _only_rows])
def test_a_neighbour_that_is_not_scaled_is_found(wrong: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale_values, "Scaled", wrong)
    with pytest.raises(Mismatch):
        verified(Shape(layers=1), *STEPS)


def test_heads_that_share_values_share_factors_and_a_lock_repeats_them() -> None:
    shape = Shape(layers=2)
    calls = tuple(case.feeds for case in Domain(shape).cases(np.random.default_rng(1)))
    made = []
    decisions: dict[str, object] = {}
    for data in (CalibrationData("calls", "0", calls, 60), None):
        model = canonical_decoder(shape)
        for layer in range(2):
            weight = model.graph.initializers[f"layers.{layer}.attn.v_proj.weight"]
            assert weight.const_value is not None
            large = weight.const_value.numpy().copy()
            large[:, [3, 20]] *= 30
            weight.const_value = ir.tensor(large)
        context = Context(model, domain=Domain(shape), calibration=data, task="text-generation")
        context.decisions.update(decisions)
        step = Step("scale-values", {"block_size": 16})
        made.append(run_recipe(model, Recipe("test", "", Budget(), (step,)), context).records[0].applied)
        decisions = dict(context.decisions)

    found = [steps for key, steps in decisions.items() if key.startswith("scale-values")]
    for steps in found:
        by_head = np.asarray(steps).reshape(2, 2, 16)
        np.testing.assert_array_equal(by_head[:, 0], by_head[:, 1])
        assert np.sort(np.argsort(by_head[:, 0].ravel())[-2:]).tolist() == [3, 20]
    assert made == [len(found), len(found)] == [2, 2]


def test_the_adapter_scales_a_cache_there_and_back() -> None:
    adapter = ScaledValues("past", "present", 3, tuple(range(-6, 6)))
    cache = np.random.default_rng(0).standard_normal((2, 3, 5, 4)).astype(np.float32)
    scaled = adapter.feeds({"past": cache})["past"]
    np.testing.assert_allclose(scaled[:, 1, :, 2], cache[:, 1, :, 2] / factors_of([0])[0], rtol=1e-6)
    assert np.abs(scaled - cache).max() > 0.1
    assert np.allclose(adapter.results({"present": scaled})["present"], cache, atol=1e-5)
    assert ScaledValues.from_json({k: v for k, v in adapter.to_json().items() if k != "kind"}) == adapter
