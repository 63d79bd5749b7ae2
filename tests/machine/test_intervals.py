"""Intervals hold what they say: nine of ten later measurements."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.machine._intervals import difference_of, interval_of


@pytest.mark.parametrize("count", [4, 6, 8, 16, 40])
def test_nine_of_ten_later_measurements_lie_within(count: int) -> None:
    rng = np.random.default_rng(count)
    draws = np.exp(rng.normal(0, 0.1, (4000, count + 1)))
    within = 0
    for *samples, later in draws:
        found = interval_of(samples)
        within += found.low <= later <= found.high
    assert 0.82 <= within / len(draws) <= 0.96


def test_one_disturbed_sample_is_not_all_there_is_to_say() -> None:
    assert interval_of([1.0, 1.01, 0.99, 1.0, 50.0]).high < 2


def test_a_single_sample_is_its_own_interval() -> None:
    assert interval_of([3.0]).model_dump() == {"value": 3.0, "low": 3.0, "high": 3.0}


def test_what_one_of_many_costs_is_the_difference() -> None:
    assert difference_of([11.0] * 3, [1.0] * 3, 10).value == pytest.approx(1.0)


def test_calls_that_nearly_cancel_do_not_say_that_something_costs_nothing() -> None:
    found = difference_of([1.0, 1.1, 0.9, 1.0], [1.2] * 4, 10)
    assert found.value == pytest.approx(0.01)
    assert 0 < found.low <= found.value <= found.high
