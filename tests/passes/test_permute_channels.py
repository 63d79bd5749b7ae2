"""Channels in another order: the same answers, wrong orders found, and less lost by rounding."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from graphopt_passes import permute_channels
from graphopt_passes._nbits import quantize_rows, unpacked

from graphopt.calibrate import CalibrationData
from graphopt.ir import Expr, InMemory, Taken
from graphopt.pipeline import Context, Mismatch
from graphopt.plugins import run_recipe
from graphopt.recipes import Budget, Recipe, Step
from tests.passes._canonical import Domain, Shape, canonical_decoder
from tests.passes._other_weights import FAMILIES, largest_error, verdicts, verified
from tests.passes._runs import Lowered


@pytest.mark.parametrize("name", FAMILIES)
def test_the_answers_are_the_same(name: str) -> None:
    lowered = Lowered(FAMILIES[name], "permute-channels")
    assert lowered.result.records[-1].applied == FAMILIES[name].layers
    assert largest_error(lowered) < 1e-5
    assert lowered.operators == Lowered(FAMILIES[name], "dead-code").operators


def test_every_edit_is_proven() -> None:
    found = verified(Shape(layers=1, bias=True), "permute-channels")
    assert verdicts(found, "permute-channels") == {"proven"}


def _only(axis_kept: int) -> object:
    def taken(source: Expr, places: Expr, axis: int) -> Expr:
        return Taken(source, places, axis) if axis == axis_kept else source

    return taken


def _turned_around(source: Expr, places: InMemory, axis: int) -> Expr:
    order = np.argsort(places.array) if axis else places.array
    return Taken(source, InMemory(order), axis)


@pytest.mark.parametrize("wrong", [_only(0), _only(1), _turned_around], ids=["readers", "makers", "inverse"])
def test_a_neighbour_in_another_order_is_found(wrong: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(permute_channels, "Taken", wrong)
    with pytest.raises(Mismatch):
        verified(Shape(layers=1), "permute-channels")


def test_by_activations_the_largest_channel_is_the_first() -> None:
    shape = Shape(layers=1)
    model = canonical_decoder(shape)
    weight = model.graph.initializers["layers.0.mlp.up.weight"]
    assert weight.const_value is not None
    array = weight.const_value.numpy().copy()
    array[:, 41] *= 100
    weight.const_value = ir.tensor(array)
    calls = tuple(case.feeds for case in Domain(shape).cases(np.random.default_rng(1)))
    context = Context(model, domain=Domain(shape), calibration=CalibrationData("calls", "0", calls, 60))
    recipe = Recipe("test", "", Budget(), (Step("permute-channels", {"by": "activations"}),))
    assert run_recipe(model, recipe, context).records[0].applied == 1
    (order,) = [o for key, o in context.decisions.items() if key.startswith("permute")]
    assert order[0] == 41
    assert sorted(order) == list(range(shape.ffn))


def test_blocks_of_entries_of_like_size_lose_less() -> None:
    rng = np.random.default_rng(0)
    rows = (rng.standard_normal((64, 256)) * np.exp(rng.standard_normal(256))).astype(np.float32)
    order = np.argsort(-np.abs(rows).max(0))
    before, after = (_lost(matrix) for matrix in (rows, rows[:, order]))
    assert after < 0.8 * before


def _lost(rows: np.ndarray) -> float:
    return float(np.square(unpacked(quantize_rows(rows, 4, 32), 4, 256) - rows).sum())
