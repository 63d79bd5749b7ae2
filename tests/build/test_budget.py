"""A package is held to the budget it was planned for, and planned once more where it does not keep it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from graphopt.build import _budget
from graphopt.errors import CheckFailed
from graphopt.evaluate import CheckedMetric, ClosingCheck
from graphopt.metrics import Exact, Sample
from graphopt.plan import PLAN, Choice, Plan, Table, Unit, allocate, parse_bounds
from graphopt.recipes import Budget


class Job(SimpleNamespace):
    def decisions(self) -> Any:
        return self.graphs[0].context.decisions


def job(budget: str, kl: float) -> Job:
    choices = (Choice("2/64", 0.02, 250), Choice("4/64", 0.002, 500), Choice("8/64", 0.00001, 1000))
    table = Table([Unit((f"w{n}",), 1000, choices) for n in range(10)])
    plan = allocate(table, parse_bounds([budget]), step="planner")
    bound = plan.bounds.get("kl_mean")
    closing = ClosingCheck("passed", metrics=(CheckedMetric("text", "logits", "kl_mean", kl, bound or 0.1),))
    decisions = {"planner": dict(plan.forms), PLAN: plan.model_dump(mode="json"), "other": 1}
    return Job(
        graphs=[SimpleNamespace(context=SimpleNamespace(decisions=decisions))],
        closing=closing,
        recipe=SimpleNamespace(budget=Budget(kl_mean=bound or 0.1)),
        staging=SimpleNamespace(package="nowhere"),
        cache=None,
    )


@pytest.fixture
def facts(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """What is true of every package."""
    found: dict[str, float] = {}
    for name in ("write_all_documents", "remove_documents"):
        monkeypatch.setattr(_budget, name, lambda job: None)
    monkeypatch.setattr(_budget.RunnablePackage, "load", lambda path: path)
    monkeypatch.setattr(
        _budget,
        "measure_facts",
        lambda package, baseline, metrics: [Sample(m, Exact(found[m])) for m in metrics],
    )
    return found


def plan_of(one: Job) -> Plan:
    return Plan.model_validate(one.decisions()[PLAN])


def test_a_budget_that_is_kept_is_left_at_that(facts: dict[str, float]) -> None:
    one = job("kl_mean=0.03", 0.029)
    forms = plan_of(one).forms
    _budget.hold_to_budget(one)  # type: ignore[arg-type]
    assert _budget.replanned(one) is None  # type: ignore[arg-type]
    assert plan_of(one).forms == forms
    assert plan_of(one).measured == {"kl_mean": 0.029}
    assert one.closing.verdict == "passed"


def test_one_that_is_not_is_planned_for_once_more(facts: dict[str, float]) -> None:
    one = job("kl_mean=0.03", 0.06)
    before = plan_of(one)
    _budget.hold_to_budget(one)  # type: ignore[arg-type]
    decisions = _budget.replanned(one)  # type: ignore[arg-type]
    assert decisions is not None
    after = Plan.model_validate(decisions[PLAN])
    assert decisions["planner"] == dict(after.forms) != dict(before.forms)
    assert decisions["other"] == 1
    assert after.predicted["bpw"] > before.predicted["bpw"]
    assert after.before is not None
    assert after.before.measured == {"kl_mean": 0.06}


def test_one_that_cannot_be_kept_says_so(facts: dict[str, float]) -> None:
    one = job("kl_mean=0.001", 0.2)
    _budget.hold_to_budget(one)  # type: ignore[arg-type]
    with pytest.raises(CheckFailed, match=r"kl_mean=0\.001 cannot be met: the nearest plan has kl_mean"):
        _budget.replanned(one)  # type: ignore[arg-type]


@pytest.mark.parametrize(("bits", "verdict"), [(4.0, "passed"), (4.2, "failed")])
def test_bits_are_held_to_what_is_stored(facts: dict[str, float], bits: float, verdict: str) -> None:
    facts["bpw"] = bits
    one = job("bpw=4.1", 0.01)
    _budget.hold_to_budget(one)  # type: ignore[arg-type]
    assert one.closing.verdict == verdict
    assert plan_of(one).measured == {"kl_mean": 0.01, "bpw": bits}
    if verdict == "failed":
        assert "does not keep its budget: package in its budget: bits a weight is 4.2" in (
            one.closing.difference()
        )
