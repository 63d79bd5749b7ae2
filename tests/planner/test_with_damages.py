"""Plans by damages that are measured first."""

from __future__ import annotations

from typing import Any

import pytest

import graphopt.sweep
from graphopt import BadInput
from graphopt.plan import Bound, Choice, Table, Together, Unit, allocate
from graphopt.planner import planned_source, with_damages
from graphopt.sweep import Measure, Trial


def made(trial: Trial, measure: Measure, *, ray: str, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """A plan of one weight, in place of one that takes minutes."""
    assert (ray, measure.cores, trial.source) == ("host:1", 2, "tiny-coder")
    step = next(step for step in trial.recipe.steps if step.options.get("budget"))
    assert step.options["budget"] == "bpw=32"
    unit = Unit(("w",), 64, (Choice("4/32", 0.5, 40, None), Choice("8/32", 0.1, 72, None)))
    plan = allocate(Table([unit], Together(1.0, 1.0), {}), [Bound("bpw", 32.0, "bpw=32")], step=step.name)
    return plan.model_dump(mode="json"), dict(step.options)


def test_damages_are_measured_once_and_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphopt.sweep, "damages", made)
    planned = planned_source("tiny-coder")
    assert planned.sensitivities is None

    found = with_damages(planned, ("lossless", "int4"), threads=2, ray="host:1")
    assert found.sensitivities is not None
    assert found.sensitivities.names == {"w"}
    assert found.sensitivities.factor is None

    again = planned_source("tiny-coder")
    assert again.sensitivities == found.sensitivities
    monkeypatch.delattr(graphopt.sweep, "damages")
    assert with_damages(again, ("int4",), ray="host:1") == again


def test_what_has_no_weights_or_shares_out_nothing_is_refused() -> None:
    with pytest.raises(BadInput, match="without weights"):
        with_damages(planned_source("llama-3.2-1b"), ("int4",))
    with pytest.raises(BadInput, match="no recipe shares out bits: fp16, lossless"):
        with_damages(planned_source("tiny-coder"), ("fp16", "lossless"))
