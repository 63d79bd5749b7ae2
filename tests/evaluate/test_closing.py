"""The closing check says no to a package that differs, and names the output and by how much."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pytest

from graphopt.evaluate import CheckedMetric, ClosingCheck, closing_check
from graphopt.recipes import Budget

LOSSLESS = Budget()
LOSSY = Budget(kl_mean=0.02, kl_p99=0.2, cosine_min=0.99)
Model = Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]


@dataclass(frozen=True)
class Case:
    name: str
    feeds: dict[str, np.ndarray]
    compare: dict[str, np.ndarray] = field(default_factory=dict)


def case(name: str = "prefill", batch: int = 3, *, masked: int = 0) -> Case:
    """`masked` positions of the first row mean nothing."""
    valid = np.ones((batch, 5, 1), bool)
    valid[0, :masked] = False
    ids = np.random.default_rng(0).integers(0, 40, (batch, 5))
    return Case(name, {"input_ids": ids}, {"logits": valid})


def reference(feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    table = np.random.default_rng(1).normal(size=(40, 64)).astype(np.float32) * 3
    return {"logits": table[feeds["input_ids"]]}


def changed(change: Callable[[np.ndarray], np.ndarray]) -> Model:
    return lambda feeds: {"logits": change(reference(feeds)["logits"])}


def off_by(size: float) -> Model:
    return changed(lambda logits: logits + size * np.sign(np.random.default_rng(2).normal(size=logits.shape)))


def check(
    package: Model, budget: Budget, *, one: Case | None = None, distribution: bool = True
) -> ClosingCheck:
    return closing_check(
        reference,
        package,
        cases=[one or case()],
        budget=budget,
        distribution=distribution,
        against="the source",
    )


@pytest.mark.parametrize("budget", [LOSSLESS, LOSSY])
@pytest.mark.parametrize("distribution", [True, False])
def test_the_same_model_passes(budget: Budget, distribution: bool) -> None:
    found = check(reference, budget, distribution=distribution)

    assert found.verdict == "passed"
    assert found.metrics
    assert not found.failures()


def test_rounding_passes_as_lossless() -> None:
    assert check(off_by(1e-4), LOSSLESS).verdict == "passed"


def test_more_than_rounding_fails_as_lossless() -> None:
    found = check(off_by(1e-2), LOSSLESS)

    assert re.search(r"in prefill: largest difference is 0\.003\d+, at most 0\.001 std", found.difference())


def test_a_changed_token_fails_as_lossless() -> None:
    def swap(logits: np.ndarray) -> np.ndarray:
        out = logits.copy()
        top = out[0, 0].argmax()
        out[0, 0, top] = -20
        return out

    metrics = {c.metric: c for c in check(changed(swap), LOSSLESS).metrics}

    assert metrics["top1_mismatches"].value == 1
    assert not metrics["top1_mismatches"].holds


def test_damage_within_the_budget_passes() -> None:
    assert check(off_by(0.1), LOSSY).verdict == "passed"


@pytest.mark.parametrize("size", [1.0, 5.0])
def test_damage_beyond_the_budget_fails(size: float) -> None:
    found = check(off_by(size), LOSSY)

    assert found.verdict == "failed"
    assert re.search("logits in prefill: mean KL", found.difference())


def test_one_case_beyond_the_budget_fails_and_is_named() -> None:
    batch = case("left-padded batch")

    def broken_when_batched(feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return off_by(5.0 if feeds is batch.feeds else 0.0)(feeds)

    found = closing_check(
        reference,
        broken_when_batched,
        cases=[case("prefill"), batch],
        budget=LOSSY,
        distribution=True,
        against="the source",
    )

    assert [c.case for c in found.failures()] == ["left-padded batch"]


def test_what_was_measured_on_data_counts() -> None:
    beyond = CheckedMetric("held-out text", "logits", "kl_mean", 0.5, 0.02)
    found = closing_check(
        reference,
        reference,
        cases=[case()],
        budget=LOSSY,
        distribution=True,
        against="the source",
        measured=[beyond],
    )

    assert re.search(r"held-out text: mean KL divergence is 0\.5, at most 0\.02", found.difference())


@pytest.mark.parametrize("budget", [LOSSLESS, LOSSY])
@pytest.mark.parametrize(
    "change",
    [
        lambda x: np.full_like(x, np.nan),
        lambda x: x[:, 1:],
        lambda x: np.roll(x, 1, axis=-1),
        lambda x: np.zeros_like(x),
        lambda x: x[::-1],
    ],
    ids=["nan", "too short", "shifted", "zero", "batch reversed"],
)
@pytest.mark.parametrize("distribution", [True, False])
def test_wrong_results_fail(
    change: Callable[[np.ndarray], np.ndarray], budget: Budget, distribution: bool
) -> None:
    assert check(changed(change), budget, distribution=distribution).verdict == "failed"


@pytest.mark.parametrize("budget", [LOSSLESS, LOSSY])
def test_a_missing_output_fails(budget: Budget) -> None:
    assert check(lambda feeds: {}, budget).verdict == "failed"


@pytest.mark.parametrize("budget", [LOSSLESS, LOSSY])
def test_padding_is_not_compared(budget: Budget) -> None:
    def garbage_in_padding(feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        logits = reference(feeds)["logits"]
        if feeds["input_ids"] is padded.feeds["input_ids"]:
            logits[0, :2] = np.nan
        return {"logits": logits}

    padded = case("left-padded batch", masked=2)
    found = closing_check(
        reference, garbage_in_padding, cases=[padded], budget=budget, distribution=True, against="it"
    )

    assert found.verdict == "passed"


def test_a_budget_that_bounds_nothing_decides_nothing() -> None:
    found = check(reference, Budget(kl_mean=0.1), distribution=False)

    assert found.verdict == "inconclusive"
    assert re.search("bounds nothing", found.reason)


def test_integer_outputs_are_compared_exactly() -> None:
    def labels(feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"label": feeds["input_ids"]}

    def other(feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"label": feeds["input_ids"] + 1}

    cases = [case()]
    same = closing_check(labels, labels, cases=cases, budget=LOSSLESS, distribution=False, against="it")
    wrong = closing_check(labels, other, cases=cases, budget=LOSSLESS, distribution=False, against="it")

    assert (same.verdict, wrong.verdict) == ("passed", "failed")


@pytest.mark.parametrize(
    ("other", "verdict"),
    [([[1], [2, 3]], "passed"), ([[1], [2, 4]], "failed"), ([[1]], "failed"), ([[1], [2, 3], []], "failed")],
)
def test_sequences_are_compared_tensor_by_tensor(other: list[list[int]], verdict: str) -> None:
    def parts(values: list[list[int]]) -> Model:
        return lambda feeds: {"parts": [np.array(value, np.float32) for value in values]}  # type: ignore[dict-item]

    found = closing_check(
        parts([[1], [2, 3]]), parts(other), cases=[case()], budget=LOSSLESS, distribution=False, against="it"
    )

    assert found.verdict == verdict


def test_an_optional_output_that_is_there_only_once_fails() -> None:
    def optional(value: np.ndarray | None) -> Model:
        return lambda feeds: {"maybe": value}  # type: ignore[dict-item]

    there, absent = optional(np.zeros(2)), optional(None)
    verdicts = [
        closing_check(a, b, cases=[case()], budget=LOSSLESS, distribution=False, against="it").verdict
        for a, b in ((absent, absent), (absent, there), (there, absent))
    ]

    assert verdicts == ["passed", "failed", "failed"]


@pytest.mark.parametrize("worse", ["failed", "inconclusive"])
def test_of_two_checks_the_worse_counts_and_all_metrics_stay(
    worse: Literal["failed", "inconclusive"],
) -> None:
    one = CheckedMetric("case", "y", "scaled_difference", 0.0, 1.0)
    good = ClosingCheck("passed", "here", metrics=(one,), seconds=1.0)
    bad = ClosingCheck(worse, "there", "said", (one,), 2.0)
    for both in (good.and_then(bad), bad.and_then(good)):
        assert (both.verdict, both.reason, both.seconds) == (worse, "said", 3.0)
        assert both.metrics == (one, one)
