"""The likeliest span within a context: as an exhaustive search finds it, near-ties aside."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphopt.evaluate._examples import Example
from graphopt.evaluate._spans import Span, SpanHead, best_span, same_answer

Array = np.ndarray[Any, Any]


def test_it_is_what_an_exhaustive_search_finds() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        size = int(rng.integers(1, 9))
        start, end = rng.standard_normal((2, size)).astype(np.float32)
        places = rng.random(size) < 0.7
        places[rng.integers(size)] = True
        legal = [(i, j) for j in range(size) for i in range(j + 1) if places[i] and places[j]]
        expected = max(legal, key=lambda at: float(start[at[0]]) + float(end[at[1]]))
        assert best_span(start, end, places) == expected


def test_an_end_before_the_start_is_no_span() -> None:
    assert best_span(np.asarray([0.0, 0, 9]), np.asarray([9.0, 0, 1]), np.ones(3, bool)) == (2, 2)
    assert best_span(np.asarray([0.0, 0, 9]), np.asarray([9.0, 0, 1]), np.asarray([1, 1, 0], bool)) == (0, 0)


def test_what_is_not_finite_is_no_answer() -> None:
    assert best_span(np.asarray([0.0, np.nan]), np.zeros(2), np.ones(2, bool)) is None
    assert best_span(np.zeros(2), np.zeros(2), np.zeros(2, bool)) is None
    head, example = SpanHead(), Example("")
    nothing = Span(None, np.zeros(2), np.zeros(2), np.ones(2, bool))
    assert head.agreement(nothing, nothing)["span_agreement"] == 0
    assert head.right(nothing, Example("", labels=np.asarray([0, 0])))["label_accuracy"] == 0
    answer = head.answer({"start_logits": np.zeros((1, 2)), "end_logits": np.zeros((1, 2))}, 0, example)
    assert answer.at == (0, 0)


@pytest.mark.parametrize(("gap", "same"), [(0.0, 1), (1e-4, 1), (0.5, 0)])
def test_a_near_tie_of_the_reference_counts_as_the_same(gap: float, same: float) -> None:
    places = np.ones(4, bool)
    start, end = np.asarray([2.0, 2.0 - gap, 0, 0]), np.asarray([0.0, 0, 0, 3.0])
    expected = Span(best_span(start, end, places), start, end, places)
    got = Span((1, 3), start, end, places)
    assert expected.at == (0, 3)
    assert SpanHead().agreement(expected, got)["span_agreement"] == same


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("The  Cat.", "cat", True),
        ("a cat", "an CAT!", True),
        ("cats", "cat", False),
        ("theatre", "atre", False),
    ],
)
def test_answers_are_compared_as_squad_does(a: str, b: str, same: bool) -> None:
    assert same_answer(a, b) is same
