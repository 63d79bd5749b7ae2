"""One table of metrics: every key that files use is in it, and which way is better is there once."""

from __future__ import annotations

import math
from dataclasses import fields

import pytest

from graphopt.evaluate import EncoderAccuracy, LanguageAccuracy
from graphopt.metrics import METRICS
from graphopt.plugins import load_recipe, registry
from graphopt.recipes import Budget

BOUNDS = [("kl_mean", 0.02), ("kl_mean", 0.0), ("cosine_min", 0.99), ("sqnr", 20.0)]
COUNTS = {"sequences", "tokens", "calls"}


def test_budgets_are_stated_in_metrics() -> None:
    assert set(Budget.model_fields) <= set(METRICS)
    for recipe in registry.recipes():
        assert load_recipe(recipe).budget.model_dump().keys() <= METRICS.keys()


def test_contracts_are_stated_in_metrics() -> None:
    metrics = {cls.contract.metric for cls in registry.passes().values() if cls.contract.kind == "lossy"}

    assert metrics
    assert metrics <= METRICS.keys()


@pytest.mark.parametrize("accuracy", [LanguageAccuracy, EncoderAccuracy])
def test_validate_says_metrics(accuracy: type) -> None:
    names = {field.name.removeprefix("reference_") for field in fields(accuracy)} - COUNTS

    assert names <= METRICS.keys()


def test_every_metric_is_told_in_full() -> None:
    for key, metric in METRICS.items():
        assert metric.key == key
        assert metric.label
        assert metric.meaning.endswith(".")
    assert len({metric.label for metric in METRICS.values()}) == len(METRICS)


def test_a_bound_holds_on_the_better_side() -> None:
    divergence, cosine = METRICS["kl_mean"], METRICS["cosine_min"]

    assert divergence.holds(0.02, 0.02)
    assert not divergence.holds(0.021, 0.02)
    assert cosine.holds(0.99, 0.99)
    assert not cosine.holds(0.98, 0.99)
    assert not divergence.holds(math.nan, 1.0)
    assert not cosine.holds(math.nan, -1.0)


@pytest.mark.parametrize(("key", "bound"), BOUNDS)
def test_strain_grows_beyond_the_bound(key: str, bound: float) -> None:
    metric = METRICS[key]
    sign = -1 if metric.better == "larger" else 1
    near, further, far = (metric.strain(bound + sign * by, bound) for by in (0.001, 0.01, 1.0))

    assert metric.strain(bound, bound) <= 1
    assert 1 < near < further < far
    assert metric.strain(math.nan, bound) == math.inf
