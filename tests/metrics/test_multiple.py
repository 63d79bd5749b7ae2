"""Corrections for many questions, and McNemar's test: against hand-computed cases and scipy."""

from __future__ import annotations

import pytest

from graphopt.metrics import benjamini_hochberg, holm, mcnemar

P = [0.01, 0.04, 0.03, 0.005]


def test_holm_by_hand() -> None:
    assert holm(P) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_benjamini_and_hochberg_by_hand() -> None:
    assert benjamini_hochberg(P) == pytest.approx([0.02, 0.04, 0.04, 0.02])


def test_holm_is_stricter_than_no_correction_and_no_probability_is_above_1() -> None:
    assert all(a > p for a, p in zip(holm(P), P, strict=True))
    assert holm([0.5, 0.9]) == [1.0, 1.0]


def test_one_question_needs_no_correction() -> None:
    assert holm([0.3]) == benjamini_hochberg([0.3]) == [0.3]
    assert holm([]) == benjamini_hochberg([]) == []


@pytest.mark.parametrize(("won", "lost"), [(1, 8), (8, 1), (0, 5), (12, 10)])
def test_mcnemar_is_the_binomial_test(won: int, lost: int) -> None:
    from scipy import stats

    assert mcnemar(won, lost) == pytest.approx(stats.binomtest(won, won + lost).pvalue)


def test_mcnemar_of_equals() -> None:
    assert mcnemar(3, 3) == mcnemar(0, 0) == 1.0
