"""Dollars follow from times, a price and how busy a machine is."""

from __future__ import annotations

import math

import pytest

from graphopt import BadInput
from graphopt.machine import Interval
from graphopt.planner import Hosting, dollars


def exactly(value: float) -> Interval:
    return Interval(value=value, low=value, high=value)


TIMES = {"ttft": Interval(value=0.5, low=0.4, high=0.6), "tpot": exactly(0.02)}


def test_a_million_tokens_take_a_million_times_a_token() -> None:
    found = dollars(TIMES, 100, 51, 2, exactly(3.6), 1.0)
    assert found["usd_per_mtok_out"].value == pytest.approx(1e6 * 0.02 / 2 * 0.001)
    assert found["usd_per_mtok_in"].value == pytest.approx(1e6 * 0.5 / 200 * 0.001)
    assert found["usd_per_mtok"].value == pytest.approx(1e6 * (0.5 + 50 * 0.02) / (2 * 151) * 0.001)
    assert found["usd_per_mtok_in"].high == pytest.approx(1.2 * found["usd_per_mtok_in"].value)


def test_half_the_use_is_twice_the_price() -> None:
    busy, idle = (dollars(TIMES, 100, 50, 1, exactly(1.0), share) for share in (1.0, 0.5))
    assert idle["usd_per_mtok"].value == pytest.approx(2 * busy["usd_per_mtok"].value)


@pytest.mark.parametrize("share", [1.0, 0.25])
def test_at_the_break_even_both_cost_the_same(share: float) -> None:
    hosting = Hosting(1.0, share, 30.0, 60.0)
    even = hosting.break_even(100, 50, dollars(TIMES, 100, 50, 1, exactly(1.0), share))
    assert even is not None
    then = dollars(TIMES, 100, 50, 1, exactly(1.0), even.value)["usd_per_mtok"].value
    assert then * 150 / 1e6 == pytest.approx(hosting.api_request(100, 50))


@pytest.mark.parametrize("share", [0.0, -1.0, 1.01, math.nan, math.inf])
def test_a_machine_is_used_for_a_share_of_the_time(share: float) -> None:
    with pytest.raises(BadInput, match="is not above 0 and at most 1"):
        Hosting(utilization=share)


@pytest.mark.parametrize("name", ["price", "api_in", "api_out"])
@pytest.mark.parametrize("price", [-1.0, math.nan, math.inf])
def test_prices_are_finite_and_not_negative(name: str, price: float) -> None:
    with pytest.raises(BadInput, match="dollars is none"):
        Hosting(**{name: price})
