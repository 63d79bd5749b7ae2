"""Where damages of a model's own weights are known, plans are made by them."""

from __future__ import annotations

import json

import pytest

from graphopt.cache import RunCache
from graphopt.cost import decoder_work
from graphopt.export import resolve_source
from graphopt.plan import PLAN, Choice, Table, Together, Unit, allocate, parse_bounds
from graphopt.planner import BOUNDED, Request, Sensitivities, choose, planned_source
from graphopt.planner._mixtures import bits_of
from graphopt.planner._recipes import Storing, tables_and_weights
from tests._cache import ROOT
from tests.planner._machines import machine

CONFIG = json.loads((ROOT / "models/tiny_coder/config.json").read_text(encoding="utf-8"))
FORMS = ("2/128", "4/128", "8/128")
STORING = Storing("int4")


def known(measured: float | None = None) -> Sensitivities:
    """Damages that grow with a weight's place in the model, four times as large for each bit less."""
    units = []
    for place, (weight, _) in enumerate(tables_and_weights(decoder_work(CONFIG))):
        choices = [
            Choice(form, 1.5**place * 4.0 ** -bits_of(form) / 1e5, round(weight.entries * bits_of(form) / 8))
            for form in FORMS
        ]
        units.append(Unit((weight.name,), weight.entries, tuple(choices)))
    table = Table(units, Together(1.0, 1.0), {"package_bytes": 1000.0})
    plan = allocate(table, parse_bounds(["bpw=4.25"]), step=str(STORING.planner))
    if measured is not None:
        plan = plan.model_copy(update={"measured": {"kl_mean": measured * plan.predicted["kl_mean"]}})
    return Sensitivities.of(plan, {**(STORING.planning or {}), "budget": "bpw=4.25"})


def asked(*budget: str, sensitivities: Sensitivities, minimize: str | None = None) -> Request:
    bounds = parse_bounds(budget, BOUNDED)
    return Request(
        "tiny",
        decoder_work(CONFIG),
        (machine(),),
        ("int4", "int8"),
        bounds,
        minimize,
        sensitivities=sensitivities,
    )


def test_the_factor_is_that_of_the_package_that_was_measured() -> None:
    assert known(1.3).factor == pytest.approx(1.3)
    assert known(1.3).near == pytest.approx(1.3 * known(1.3).plan.predicted["kl_mean"])
    assert known().factor is None


def test_bits_go_where_damages_are() -> None:
    best = choose(asked("bpw=4.25", sensitivities=known(1.2), minimize="kl")).best
    assert best.candidate.budget == ("bpw=4.25",)
    forms = best.candidate.forms
    names = [weight.name for weight, _ in tables_and_weights(decoder_work(CONFIG))]
    assert bits_of(forms[names[0]]) < bits_of(forms[names[-2]])
    assert best.prediction.metrics["bpw"].value <= 4.25
    assert not best.notes


def test_divergence_is_corrected_and_known_better_than_of_a_model_that_was_not_measured() -> None:
    one, other = (choose(asked("bpw=4.25", sensitivities=known(x), minimize="kl")).best for x in (1.0, 1.3))
    kl, larger = one.prediction.metrics["kl_mean"], other.prediction.metrics["kl_mean"]
    assert larger.value == pytest.approx(1.3 * kl.value)
    assert kl.high / kl.value < 1.2


def test_a_bound_of_damage_is_met_by_the_fastest_plan() -> None:
    best = choose(asked("kl_mean=0.001", sensitivities=known(1.0), minimize="tpot")).best
    assert best.prediction.metrics["kl_mean"].value <= 0.001
    assert best.candidate.budget == ("kl_mean=0.001",)


def test_what_a_run_left_in_the_cache_is_found(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRAPHOPT_CACHE", str(tmp_path_factory.mktemp("cache")))
    assert planned_source("tiny-coder").sensitivities is None
    cache = RunCache.open(resolve_source("tiny-coder"), "auto", {})
    assert cache is not None
    made = known(1.1)
    for factor in (1.1, 1.2):
        plan = known(factor).plan.model_dump(mode="json")
        cache.keep_plan({"options": dict(made.planning), PLAN: plan})
    found = planned_source("tiny-coder").sensitivities
    assert found is not None
    assert found.factor == pytest.approx(1.2)
    assert found.planning == STORING.planning
