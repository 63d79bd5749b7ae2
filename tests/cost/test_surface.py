"""Values between points, and how far off they may be."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.cost._surface import Surface

POINTS = [[0.0], [2.0], [4.0]]


def surface(*values: float, sd: float = 0.0) -> Surface:
    return Surface(POINTS, values, [sd] * 3, [12.0])


def test_points_are_met_and_between_them_lies_nearly_a_line() -> None:
    line = surface(1.0, 2.0, 4.0)
    assert line.at([2.0]).value == pytest.approx(2.0, abs=1e-3)
    assert line.at([1.0]).value == pytest.approx(1.5, abs=0.05)
    assert line.at([3.0]).value == pytest.approx(3.0, abs=0.05)


def test_it_is_less_sure_between_and_still_less_beyond() -> None:
    line = surface(1.0, 2.0, 4.0)
    at, between, beyond = (line.at([x]).sd for x in (2.0, 3.0, 9.0))
    assert at < between < beyond
    assert line.at([9.0]).value == pytest.approx(4.0, abs=1e-3)
    assert line.at([9.0]).beyond == pytest.approx(5.0)


def test_rough_values_make_it_less_sure() -> None:
    assert surface(1.0, 1.1, 1.2).at([3.0]).sd < surface(1.0, 3.0, 0.0).at([3.0]).sd


def test_values_that_vary_are_not_met_exactly() -> None:
    assert surface(0.0, 1.0, 0.0, sd=1.0).at([2.0]).value < 0.9
    assert surface(0.0, 1.0, 0.0, sd=1.0).at([2.0]).sd > surface(0.0, 1.0, 0.0).at([2.0]).sd


def test_its_intervals_hold_what_it_did_not_see() -> None:
    """Of values that vary as it believes, nine of ten lie within 1.64 standard deviations."""
    rng, held = np.random.default_rng(0), []
    grid = np.linspace(0, 10, 41)
    likeness = np.exp(-np.abs(grid[:, None] - grid) / 12)
    for _ in range(200):
        truth = np.linalg.cholesky(0.05 * likeness + 1e-12 * np.eye(41)) @ rng.standard_normal(41)
        known = Surface(grid[::10, None], truth[::10], [1e-4] * 5, [12.0])
        for i in (5, 13, 27, 35):
            found = known.at([grid[i]])
            held.append(abs(found.value - truth[i]) < 1.645 * found.sd)
    assert 0.85 < np.mean(held) < 0.97
