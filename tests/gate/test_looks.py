"""Looking again and again is wrong no more often than asked, which one level for all looks would be."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.gate._looks import MINIMUM_BLOCKS, level_at, p_over_looks

MOST = 20


def wrong(levels: list[float], runs: int = 20000) -> float:
    """How often a fair walk is beyond the level of any look."""
    from scipy import special

    steps = np.random.default_rng(0).normal(size=(runs, MOST)).cumsum(1) / np.sqrt(np.arange(1, MOST + 1))
    return float((steps[:, MINIMUM_BLOCKS - 1 :] > -special.ndtri(levels)).any(1).mean())


def test_all_looks_together_are_wrong_as_often_as_asked() -> None:
    levels = [level_at(look, MOST, 0.025) for look in range(MINIMUM_BLOCKS, MOST + 1)]

    assert wrong(levels) == pytest.approx(0.025, abs=0.004)


def test_one_level_for_all_looks_would_be_wrong_more_often() -> None:
    assert wrong([0.025] * (MOST - MINIMUM_BLOCKS + 1)) > 0.06


def test_the_first_look_spends_its_share_of_time() -> None:
    assert level_at(MINIMUM_BLOCKS, MOST, 0.025) == pytest.approx(0.025 * MINIMUM_BLOCKS / MOST)


def test_the_only_look_has_the_whole_level() -> None:
    assert level_at(MINIMUM_BLOCKS, MINIMUM_BLOCKS, 0.025) == pytest.approx(0.025)


@pytest.mark.parametrize("alpha", [0.2, 0.025, 0.0013])
def test_a_repeated_p_value_is_the_alpha_at_which_it_would_decide(alpha: float) -> None:
    assert p_over_looks(level_at(12, MOST, alpha), 12, MOST) == pytest.approx(alpha, rel=0.02)


def test_certainties_stay_certain() -> None:
    assert (p_over_looks(0.0, 8, MOST), p_over_looks(1.0, 8, MOST)) == (0.0, 1.0)
