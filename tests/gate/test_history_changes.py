"""Change points: none in noise, found where there is one. By simulation, with seeds."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np
import pytest
from numpy.typing import ArrayLike

from graphopt.gate import HistoryPoint, HistorySeries, changes

LENGTHS = (6, 7, 8, 10, 12, 16, 20, 30, 50, 100, 200)
SERIES = 400
Noise = Callable[[np.random.Generator, int], ArrayLike]
NOISES: dict[str, Noise] = {
    "normal": lambda random, runs: random.normal(size=runs),
    "student": lambda random, runs: random.standard_t(4, size=runs),
}


def series_of(values: ArrayLike, metric: str = "ttft", *, exact: bool = False) -> HistorySeries:
    points = tuple(HistoryPoint(datetime.now(UTC), "", float(v), "pass") for v in np.asarray(values))
    return HistorySeries("package", metric, "", "", exact, points)


@pytest.mark.parametrize("noise", NOISES.values(), ids=NOISES)
def test_noise_has_no_change_in_95_of_100_series(noise: Noise) -> None:
    random = np.random.default_rng(7)
    for runs in LENGTHS:
        levels = (np.exp(0.03 * np.asarray(noise(random, runs))) for _ in range(SERIES))
        marked = sum(bool(changes(series_of(values))) for values in levels)
        assert marked <= 0.05 * SERIES, runs


@pytest.mark.parametrize(("runs", "spread"), [(20, 0.02), (40, 0.03), (200, 0.03)])
def test_a_step_of_10_percent_is_found_within_a_run_of_where_it_is(runs: int, spread: float) -> None:
    random = np.random.default_rng(8)
    found = 0
    for _ in range(SERIES):
        level = np.where(np.arange(runs) < runs // 2, 1.0, 1.1)
        moved = changes(series_of(level * np.exp(spread * random.normal(size=runs))))
        found += any(abs(change.index - runs // 2) <= 1 and not change.better for change in moved)

    assert found >= 0.9 * SERIES


def test_two_steps_are_two_changes() -> None:
    (up, down) = changes(series_of([1.0, 1.01] * 5 + [1.2, 1.21] * 5 + [1.0, 1.01] * 5))

    assert (up.index, down.index) == (10, 20)
    assert (up.better, down.better) == (False, True)
    assert up.after == pytest.approx(1.205)


def test_one_run_apart_is_no_change() -> None:
    assert changes(series_of([1.0, 1.01, 0.99, 1.0, 1.02, 1.1, 1.0, 0.99, 1.01, 1.0, 1.0, 0.98])) == []


def test_larger_is_better_where_it_is() -> None:
    (change,) = changes(series_of([10.0, 10.1] * 5 + [20.0, 20.1] * 5, "decode_tokens_per_second"))

    assert change.better


@pytest.mark.parametrize(
    "values", [[], [1.0], [1.0, 2.0], [1.0] * 5, [0.0] * 30, [1.0] * 30, [1.0] * 10 + [float("nan")] * 10]
)
def test_what_cannot_be_told_is_no_change(values: list[float]) -> None:
    assert changes(series_of(values)) == []


@pytest.mark.parametrize(
    "values", [[1.0] * 10 + [2.0] * 10, [0.0] * 10 + [1.0] * 10, [-1.0] * 10 + [0.0] * 10]
)
def test_levels_without_any_noise_are_told_apart(values: list[float]) -> None:
    assert [change.index for change in changes(series_of(values))] == [10]


def test_exact_values_change_at_any_length() -> None:
    assert [change.index for change in changes(series_of([5, 5, 6], exact=True))] == [2]
    assert changes(series_of([5.0] * 50, exact=True)) == []
