"""Scaled channels: the same answers, every edit proven, wrong ones found, and less error where it counts."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from graphopt_passes import scale_channels
from graphopt_passes._forms import Form
from graphopt_passes._scale_search import Seen, Weight, chosen_steps, factors_of

from graphopt.calibrate import CalibrationData
from graphopt.ir import Expr, Scaled
from graphopt.pipeline import Context, Mismatch, RunResult
from graphopt.plugins import run_recipe
from graphopt.recipes import Budget, Recipe, Step
from tests.passes._canonical import Domain, Shape, canonical_decoder
from tests.passes._other_weights import FAMILIES, largest_error, verdicts, verified
from tests.passes._runs import Lowered

BY_WEIGHTS = Step("scale-channels", {"by": "weights", "bits": 2, "block_size": 16})


@pytest.mark.parametrize("name", [name for name in FAMILIES if name != "gpt2"])
def test_the_answers_are_the_same(name: str) -> None:
    lowered = Lowered(FAMILIES[name], "pack-qkv", BY_WEIGHTS)
    assert lowered.result.records[-1].applied
    assert largest_error(lowered) < 1e-5


def test_every_edit_is_proven() -> None:
    found = verified(Shape(layers=1, hidden=20, bias=True), "pack-qkv", BY_WEIGHTS)
    assert verdicts(found, "scale-channels") == {"proven"}


def _only_columns(source: Expr, factors: Expr, axis: int) -> Expr:
    return Scaled(source, factors, axis) if axis == 1 else source


def _only_rows(source: Expr, factors: Expr, axis: int) -> Expr:
    return Scaled(source, factors, axis) if axis == 0 else source


@pytest.mark.parametrize("wrong", [_only_columns, _only_rows])
def test_a_neighbour_that_is_not_scaled_is_found(wrong: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale_channels, "Scaled", wrong)
    with pytest.raises(Mismatch):
        verified(Shape(layers=1, hidden=20), "pack-qkv", BY_WEIGHTS)


def _with_large_channels() -> ir.Model:
    """A decoder with a norm that makes two channels fifty times as large as the rest."""
    model = canonical_decoder(Shape(layers=1))
    gain = np.ones(48, np.float32)
    gain[[5, 30]] = 50
    model.graph.initializers["layers.0.mlp_norm.weight"].const_value = ir.tensor(gain)
    return model


def _calibrated(model: ir.Model, decisions: dict[str, object] | None = None) -> tuple[Context, RunResult]:
    shape = Shape(layers=1)
    calls = tuple(case.feeds for case in Domain(shape).cases(np.random.default_rng(1)))
    data = None if decisions else CalibrationData("calls", "0", calls, 60)
    context = Context(model, domain=Domain(shape), calibration=data, task="text-generation")
    context.decisions.update(decisions or {})
    step = Step("scale-channels", {"bits": 4, "block_size": 16})
    return context, run_recipe(model, Recipe("test", "", Budget(), (step,)), context)


def test_channels_that_are_large_are_made_smaller_and_a_lock_repeats_it() -> None:
    model = _with_large_channels()
    context, result = _calibrated(model)
    (key,) = [k for k in context.decisions if "mlp.up" in k]
    factors = factors_of(context.decisions[key])
    assert np.sort(np.argsort(factors)[-2:]).tolist() == [5, 30]

    again = _with_large_channels()
    _, repeated = _calibrated(again, dict(context.decisions))
    assert repeated.records[0].applied == result.records[0].applied > 0
    name = "layers.0.mlp_norm.weight~scaled"
    one, other = (m.graph.initializers[name].const_value for m in (model, again))
    assert one is not None
    assert other is not None
    assert np.array_equal(one.numpy(), other.numpy())


def test_without_data_it_says_so() -> None:
    lowered = Lowered(Shape(layers=1), "scale-channels")
    assert "there is nothing to calibrate on" in lowered.near_misses()


def test_factors_pay_on_rows_that_were_not_looked_at() -> None:
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((64, 64)).astype(np.float32)
    inputs = rng.standard_normal((200, 64)).astype(np.float32)
    inputs[:, 7] *= 40
    mean = np.abs(inputs).mean(0)
    weights = [Weight(rows, Form(4, 32))]

    steps = chosen_steps(weights, Seen(mean, inputs[::2], inputs[1::2]))
    assert steps is not None
    assert np.argmax(steps) == 7
    assert (
        chosen_steps(weights, Seen(mean, inputs[::2], np.abs(rng.standard_normal((99, 64))) * (mean < 9)))
        is None
    )
