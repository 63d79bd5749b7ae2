"""Verdicts: what passes, fails or is left open, by kind of evidence, and all gates together."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from graphopt.errors import BadInput
from graphopt.gate import MINIMUM_BLOCKS, MOST_BLOCKS, SPEED_BOUND, Answer, Question, decide
from graphopt.metrics import Documents, Evidence, Exact, Sample, Turns


def turns(seed: int, blocks: int, slowdown: float = 1.0, cv: float = 0.03) -> Turns:
    rng = np.random.default_rng(seed)
    package, baseline, again = (np.exp(rng.normal(0, cv, (blocks, 2))) for _ in range(3))
    return Turns(slowdown * package, baseline, slowdown * again)


def documents(seed: int, ratio: float = 1.0, count: int = 32, noise: float = 0.1) -> Documents:
    rng = np.random.default_rng(seed)
    baseline = tuple(rng.exponential(size=50) for _ in range(count))
    return Documents(tuple(ratio * v * np.exp(rng.normal(0, noise, 50)) for v in baseline), baseline)


def ask(evidence: Evidence, operator: str, bound: float, relative: bool = False) -> Question:
    return Question(Sample("kl_mean", evidence), operator, bound, relative)  # type: ignore[arg-type]


def answer(
    evidence: Evidence,
    operator: str,
    bound: float,
    relative: bool = False,
    look: tuple[int, int] | None = None,
) -> Answer:
    (found,) = decide([ask(evidence, operator, bound, relative)], look=look).answers
    return found


@pytest.mark.parametrize(
    ("operator", "bound", "verdict"),
    [
        ("<=", 5, "pass"),
        ("<", 5, "fail"),
        (">=", 5, "pass"),
        (">", 5, "fail"),
        ("==", 5, "pass"),
        ("==", 4, "fail"),
        ("<=", 4, "fail"),
    ],
)
def test_exact_values_decide_by_themselves_and_strictly(operator: str, bound: float, verdict: str) -> None:
    found = answer(Exact(5.0), operator, bound)

    assert (found.verdict, found.exact, found.p) == (verdict, True, None)


def test_no_number_fails() -> None:
    assert answer(Exact(math.nan), "<=", 5).verdict == "fail"
    assert answer(Documents((np.asarray([math.nan]), np.ones(3))), "<=", 5).verdict == "fail"
    assert answer(Turns(np.full((6, 2), math.nan), np.ones((6, 2))), "<=", 5, relative=True).verdict == "fail"


def test_documents_pass_fail_or_are_left_open() -> None:
    evidence = documents(1, ratio=1.1)
    near = answer(evidence, "<=", 1.0, relative=True).estimate.value * 1.002
    broken, open_, kept = (answer(evidence, "<=", bound, relative=True) for bound in (1.0, near, 1.2))

    assert [found.verdict for found in (broken, open_, kept)] == ["fail", "inconclusive", "pass"]
    assert "is not <= 1x" in broken.reason
    assert f"holds the bound {near:.4g}x" in open_.reason
    assert "tokens" in open_.needed
    assert kept.reason == kept.needed == ""


def test_what_is_better_when_larger_is_judged_from_the_other_side() -> None:
    evidence = documents(2, ratio=0.9)

    assert answer(evidence, ">=", 1.0, relative=True).verdict == "fail"
    assert answer(evidence, ">=", 0.8, relative=True).verdict == "pass"


def test_identical_packages_pass() -> None:
    zeros = tuple(np.zeros(5) for _ in range(3))

    assert answer(Documents(zeros, zeros), "<=", 0.0).verdict == "pass"
    assert answer(Documents(zeros, zeros), "<=", 1.0, relative=True).verdict == "pass"
    assert answer(Documents(zeros[:1], zeros[:1]), "<=", 1.0, relative=True).verdict == "pass"


def test_one_document_is_left_open() -> None:
    found = answer(documents(3, count=1), "<=", 100.0)

    assert (found.verdict, found.units) == ("inconclusive", 1)
    assert "one document" in found.reason


def test_infinite_divergence_fails() -> None:
    assert answer(Documents((np.asarray([math.inf]), np.zeros(3), np.zeros(3))), "<=", 0.1).verdict == "fail"


def test_more_than_a_baseline_of_nothing_fails() -> None:
    zeros, ones = (tuple(np.full(5, value) for _ in range(3)) for value in (0.0, 1.0))
    found = answer(Documents(ones, zeros), "<=", 2.0, relative=True)

    assert (found.verdict, found.own, found.baseline) == ("fail", 1.0, 0.0)


def test_a_relative_gate_without_a_baseline_is_bad_input() -> None:
    with pytest.raises(BadInput, match="relative"):
        decide([ask(Exact(1.0), "<=", 1.0, relative=True)])


def test_chance_shows_no_equality_and_can_refute_one() -> None:
    evidence = documents(4, ratio=1.1)

    assert answer(evidence, "==", 1.1, relative=True).verdict == "inconclusive"
    assert answer(evidence, "==", 1.0, relative=True).verdict == "fail"


def test_speed_is_not_decided_by_fewer_blocks_than_the_minimum() -> None:
    few, enough = MINIMUM_BLOCKS - 1, MINIMUM_BLOCKS
    found = answer(turns(1, few, slowdown=2.0), "<=", 1.05, relative=True, look=(few, 40))

    assert (
        answer(turns(1, enough, slowdown=2.0), "<=", 1.05, relative=True, look=(enough, 40)).verdict == "fail"
    )
    assert found.verdict == "inconclusive"
    assert str(MINIMUM_BLOCKS) in found.needed


def test_a_slowdown_is_found_and_an_equal_passes() -> None:
    blocks = 12

    assert (
        answer(turns(2, blocks, 1.3), "<=", SPEED_BOUND, relative=True, look=(blocks, 40)).verdict == "fail"
    )
    assert answer(turns(3, blocks), "<=", SPEED_BOUND, relative=True, look=(blocks, 40)).verdict == "pass"


def test_a_gate_finer_than_the_machine_is_refused_with_the_finest() -> None:
    found = answer(turns(4, 6, slowdown=1.0), "<=", 1.001, relative=True)

    assert found.verdict == "inconclusive"
    assert "finer than this machine measures" in found.reason
    assert "a bound of 1.0" in found.needed


def test_the_finest_of_a_rate_is_below_one() -> None:
    found = answer(turns(4, 6), ">=", 0.999, relative=True)

    assert "a bound of 0.9" in found.needed


def test_what_breaks_the_finest_bound_breaks_a_finer_one() -> None:
    assert answer(turns(5, 8, slowdown=1.3), "<=", 1.001, relative=True).verdict == "fail"


def test_an_early_look_needs_more_than_the_only_one() -> None:
    run = replace(turns(6, 6, slowdown=1.1), control=None)
    bound = answer(run, "<=", 1.0, relative=True).estimate.low / 1.001

    assert answer(run, "<=", bound, relative=True).verdict == "fail"
    assert answer(run, "<=", bound, relative=True, look=(6, 40)).verdict == "inconclusive"


def test_a_bound_on_the_value_itself_needs_no_control() -> None:
    run = replace(turns(7, 8), baseline=None, control=None)

    assert answer(run, "<=", 1.1).verdict == "pass"
    assert answer(run, "<=", 0.9).verdict == "fail"


def test_all_have_to_pass_and_one_failure_fails() -> None:
    passed, failed, open_ = (
        ask(Exact(1), "<=", 1),
        ask(Exact(2), "<=", 1),
        ask(documents(3, count=1), "<=", 1),
    )

    assert decide([passed, passed]).verdict == "pass"
    assert decide([passed, open_]).verdict == "inconclusive"
    assert decide([passed, open_, failed]).verdict == "fail"
    assert decide([]).verdict == "pass"


def test_among_many_gates_weak_evidence_is_left_open() -> None:
    weak = documents(8, ratio=1.1)
    bound = answer(weak, "<=", 1.0, relative=True).estimate.low / 1.0005
    many = [ask(weak, "<=", bound, relative=True), *(ask(documents(9 + i), "<=", 2.0) for i in range(9))]
    alone, among = answer(weak, "<=", bound, relative=True), decide(many).answers[0]

    assert (alone.verdict, among.verdict) == ("fail", "inconclusive")
    assert among.p == alone.p
    assert among.adjusted_p is not None
    assert among.adjusted_p > 0.025
    assert "chance" in among.reason


def test_exact_gates_do_not_make_others_stricter() -> None:
    weak = documents(8, ratio=1.1)
    bound = answer(weak, "<=", 1.0, relative=True).estimate.low / 1.0005
    many = [ask(weak, "<=", bound, relative=True), *(ask(Exact(i), "<=", 9) for i in range(9))]

    assert decide(many).answers[0].verdict == "fail"


def sequential(seed: int, slowdown: float) -> str:
    run = turns(seed, 20, slowdown)
    assert run.baseline is not None
    assert run.control is not None
    for count in range(MINIMUM_BLOCKS, 21):
        seen = Turns(run.values[:count], run.baseline[:count], run.control[:count])
        verdict = answer(seen, "<=", SPEED_BOUND, True, look=(count, MOST_BLOCKS)).verdict
        if verdict != "inconclusive":
            return verdict
    return "inconclusive"


def test_gates_of_speed_are_right_as_often_as_they_say() -> None:
    equal = Counter(sequential(seed, 1.0) for seed in range(100))
    slower = Counter(sequential(seed, 1.1) for seed in range(100))
    at_the_bound = Counter(sequential(seed, SPEED_BOUND) for seed in range(100))

    assert equal["fail"] == 0
    assert equal["pass"] >= 85
    assert slower["fail"] >= 95
    assert at_the_bound["fail"] <= 7  # 2.5 % expected at most: more than 7 of 100 have a probability of 0.4 %
    assert at_the_bound["pass"] <= 7
