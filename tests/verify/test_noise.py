"""How much further off a package may be than its source is from itself."""

from __future__ import annotations

import math

import numpy as np
import pytest

from graphopt.verify import Noise

LOSSLESS = 1e-3
X = np.random.default_rng(0).standard_normal(10_000)


def test_without_noise_the_usual_bound_holds() -> None:
    assert Noise().largest_allowed(LOSSLESS) == LOSSLESS
    assert Noise().rms_allowed(LOSSLESS) == LOSSLESS / 4


def test_it_is_in_standard_deviations() -> None:
    noise = Noise.of(10 * X, 10 * X + 0.02)
    assert noise.largest == pytest.approx(0.002, rel=0.02)
    assert noise.rms == pytest.approx(0.002, rel=0.02)
    assert noise.largest_allowed(LOSSLESS) == pytest.approx(LOSSLESS + math.sqrt(2) * noise.largest)
    assert noise.rms_allowed(LOSSLESS) == pytest.approx(math.sqrt(2) * noise.rms)


def test_few_entries_tell_less_of_how_noisy_a_source_is() -> None:
    few, many = (Noise(1e-3, 1e-3, size=size).rms_allowed(LOSSLESS) for size in (10, 1000))
    assert 4 < few / many < 5


def test_what_is_very_noisy_allows_no_more_than_a_tenth() -> None:
    noise = Noise.of(X, -X)
    assert noise.largest > 1
    assert (noise.largest_allowed(LOSSLESS), noise.rms_allowed(LOSSLESS)) == (0.1, 0.1)


@pytest.mark.parametrize("other", [X[:-1], np.where(X > 3, np.inf, X), np.where(X > 3, np.nan, X)])
def test_what_is_no_rounding_allows_nothing(other: np.ndarray) -> None:
    assert Noise.of(X, other).largest_allowed(LOSSLESS) == LOSSLESS


def test_indices_are_counted_and_levels_are_measured() -> None:
    levels = np.rint(20 * X).astype(np.int8)
    indices = np.arange(100)
    assert Noise.of(indices, np.where(indices == 3, 4, indices)) == Noise(differing=1, size=100)
    assert Noise.of(levels, levels + 1).largest == pytest.approx(1 / levels.std())


def test_the_larger_of_two_counts() -> None:
    assert Noise(1, 0, 3, 5) | Noise(0, 2, 1, 7) == Noise(1, 2, 3, 7)
