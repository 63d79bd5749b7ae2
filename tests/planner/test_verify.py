"""Plans that are made and measured, beside what was predicted of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import graphopt.sweep
from graphopt.cost import history_of
from graphopt.metrics import Estimate
from graphopt.planner import choose
from graphopt.planner._verify import verify
from graphopt.sweep import Measure, Measured, Trial
from tests.planner.test_choose import asked


def test_what_is_measured_stands_beside_what_was_predicted_and_is_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GRAPHOPT_CACHE", str(tmp_path))
    choice = choose(asked("tpot=20ms"))
    predicted = choice.outlooks[0].prediction.metrics["tpot"].value
    seen: list[Measure] = []

    def measured(trials: Sequence[Trial], measures: Sequence[Measure], **_: Any) -> list[Measured]:
        seen.extend(measures)
        slow = 2 * predicted
        return [
            Measured(trials[0], {"tpot": Estimate(slow, slow, slow)}),
            *(Measured(trial, error="no package") for trial in trials[1:]),
        ]

    monkeypatch.setattr(graphopt.sweep, "measured", measured)
    first, second = verify(choice, 2, source="nowhere")

    (tpot,) = first.checked
    assert (tpot.predicted is not None, tpot.measured, tpot.keeps) == (True, 2 * predicted, False)
    assert not first.keeps
    assert first.missed() == f"tpot is {2e3 * predicted:.3g} ms, and tpot=20ms was asked for"
    assert second.error == "no package"
    assert not second.keeps
    assert first.outlook.candidate.forms != second.outlook.candidate.forms or (
        first.outlook.candidate.recipe != second.outlook.candidate.recipe
    )
    assert seen[0].threads == seen[0].cores == choice.outlooks[0].candidate.threads
    assert "tpot" in history_of(choice.request.profiles[0]).metrics


def test_what_drafts_bring_is_not_measured_and_so_not_judged(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GRAPHOPT_CACHE", str(tmp_path))
    plain = choose(asked("kl_mean=0.001")).best.prediction.metrics["tpot"].value
    choice = choose(asked("kl_mean=0.001", f"tpot={0.9 * plain}s", drafts=True))
    assert choice.best.candidate.drafts

    def measured(trials: Sequence[Trial], measures: Sequence[Measure], **_: Any) -> list[Measured]:
        one = Estimate(plain, plain, plain)
        return [Measured(trial, {"tpot": one, "ttft": one}) for trial in trials]

    monkeypatch.setattr(graphopt.sweep, "measured", measured)
    (found,) = verify(choice, 1, source="nowhere")

    assert [one.metric for one in found.checked] == ["ttft"]
    assert found.keeps
    assert "tpot" not in history_of(choice.request.profiles[0]).metrics
