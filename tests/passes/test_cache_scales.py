"""Where the channels of a cache are clipped."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from graphopt_passes._cache_scales import Reach

NORMAL = np.random.default_rng(0).standard_normal((4096, 1)).astype(np.float32)


def limits(x: np.ndarray[Any, Any], bits: int, pieces: int = 1) -> np.ndarray[Any, Any]:
    reach = Reach(x.shape[1])
    for part in np.array_split(np.abs(x), pieces):
        reach.add(part)
    return reach.limits(bits)


def error(x: np.ndarray[Any, Any], limit: float, bits: int) -> float:
    most = 2 ** (bits - 1) - 1
    scale = limit / most
    return float(((np.clip(np.rint(x / scale), -most, most) * scale - x) ** 2).mean())


def test_one_huge_outlier_is_clipped_where_that_lowers_the_squared_error() -> None:
    x = np.concatenate([NORMAL, [[12.0]]]).astype(np.float32)
    (limit,) = limits(x, 4)

    assert limit < 6
    assert error(x, limit, 4) < 0.5 * error(x, 12.0, 4)


@pytest.mark.parametrize("bits", [4, 8])
def test_a_large_entry_is_kept_where_clipping_it_costs_more(bits: int) -> None:
    x = np.concatenate([NORMAL, NORMAL[:400] * 0 + 40]).astype(np.float32)

    (limit,) = limits(x, bits)

    assert limit == pytest.approx(40, rel=0.01)
    assert error(x, 20.0, bits) > error(x, limit, bits)


def test_four_bits_clip_the_tail_of_a_normal_distribution_near_the_best() -> None:
    (limit,) = limits(NORMAL, 4)
    best = min(error(NORMAL, at, 4) for at in np.linspace(1, 4, 200))

    assert limit < 0.9 * np.abs(NORMAL).max()
    assert error(NORMAL, float(limit), 4) < 1.03 * best


def test_eight_bits_keep_nearly_all_of_it() -> None:
    assert limits(NORMAL, 8)[0] > 0.9 * np.abs(NORMAL).max()


def test_channels_are_apart_and_a_silent_one_has_no_reach() -> None:
    x = np.concatenate([NORMAL, 100 * NORMAL, 0 * NORMAL], 1)
    alone = [limits(x[:, i : i + 1], 4)[0] for i in range(3)]

    np.testing.assert_array_equal(limits(x, 4), alone)
    assert alone[2] == 0
    assert alone[1] == pytest.approx(100 * alone[0], rel=0.03)


def test_pieces_say_what_the_whole_says() -> None:
    np.testing.assert_array_equal(limits(NORMAL, 4, pieces=7), limits(NORMAL, 4))
