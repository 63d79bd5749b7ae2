"""The searches alone, on made-up verdicts."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphopt.bisect._search import Verdict, first_bad, minimal


@given(st.integers(1, 200).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n))))
def test_the_first_bad_one_is_found_in_few_trials(case: tuple[int, int]) -> None:
    count, culprit = case
    tried: list[int] = []

    def test(number: int) -> Verdict:
        tried.append(number)
        return "bad" if number >= culprit else "good"

    assert first_bad(count, test) == (culprit - 1, culprit)
    assert len(tried) <= count.bit_length()


@given(st.integers(2, 40), st.data())
def test_what_is_skipped_stays_between(count: int, data: st.DataObject) -> None:
    culprit = data.draw(st.integers(1, count))
    skipped = data.draw(st.sets(st.integers(1, count - 1)))

    def test(number: int) -> Verdict:
        return "skip" if number in skipped else "bad" if number >= culprit else "good"

    good, bad = first_bad(count, test)
    assert good < culprit <= bad
    assert set(range(good + 1, bad)) <= skipped


@given(st.integers(1, 40), st.data())
def test_the_needed_ones_are_kept_and_no_other(count: int, data: st.DataObject) -> None:
    needed = data.draw(st.sets(st.integers(0, count - 1), min_size=1, max_size=4))

    def test(items: Sequence[int]) -> Verdict:
        return "bad" if needed <= set(items) else "good"

    assert minimal(range(count), test) == sorted(needed)


@pytest.mark.parametrize("alternatives", [({1}, {5, 6}), ({2, 3}, {3, 4})])
def test_of_several_reasons_one_is_found(alternatives: tuple[set[int], ...]) -> None:
    def test(items: Sequence[int]) -> Verdict:
        return "bad" if any(reason <= set(items) for reason in alternatives) else "good"

    assert set(minimal(range(10), test)) in alternatives
