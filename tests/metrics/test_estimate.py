"""Intervals: they cover the truth as often as they say, because whole sequences are drawn."""

from __future__ import annotations

import math

import numpy as np
import pytest

from graphopt.metrics import Estimate, bootstrap

TRUE_MEAN = 3.0


def mean(values: np.ndarray) -> float:
    return float(values.mean())


def correlated(rng: np.random.Generator, blocks: int = 20, length: int = 10) -> list[np.ndarray]:
    """Sequences whose values share most of what makes them differ from the true mean."""
    return [TRUE_MEAN + rng.normal() + 0.3 * rng.normal(size=length) for _ in range(blocks)]


def coverage(split: bool) -> float:
    """How often the interval holds the true mean; `split` draws single values instead of sequences."""
    rng, hits = np.random.default_rng(7), 0
    for _ in range(100):
        blocks = correlated(rng)
        given = [np.asarray([v]) for b in blocks for v in b] if split else blocks
        found = bootstrap(given, mean, resamples=200)
        hits += found.low <= TRUE_MEAN <= found.high
    return hits / 100


def test_the_interval_covers_the_truth() -> None:
    assert 0.88 <= coverage(split=False) <= 1.0


def test_drawing_single_values_would_not() -> None:
    assert coverage(split=True) < 0.6


def test_it_is_the_percentile_interval_of_scipy() -> None:
    from scipy import stats

    values = np.random.default_rng(0).exponential(size=50)
    found = bootstrap([np.asarray([v]) for v in values], mean, resamples=4000)
    low, high = stats.bootstrap(
        (values,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval

    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(low, abs=0.03)
    assert found.high == pytest.approx(high, abs=0.03)


def test_the_same_numbers_give_the_same_interval() -> None:
    blocks = correlated(np.random.default_rng(0))

    assert bootstrap(blocks, mean) == bootstrap(blocks, mean)


def test_longer_sequences_count_for_more() -> None:
    blocks = [np.zeros(1), np.ones(9)]

    assert bootstrap(blocks, mean).value == 0.9


def test_one_sequence_has_no_interval() -> None:
    found = bootstrap([np.asarray([1.0, 2.0, 6.0])], mean)

    assert found == Estimate(3.0, 3.0, 3.0)


def test_infinite_values_stay_infinite() -> None:
    found = bootstrap([np.asarray([math.inf]), np.asarray([math.inf])], mean)
    mixed = bootstrap([np.asarray([math.inf]), *([np.asarray([1.0])] * 9)], mean)

    assert found == Estimate(math.inf, math.inf, math.inf)
    assert (mixed.value, mixed.low, mixed.high) == (math.inf, 1.0, math.inf)
