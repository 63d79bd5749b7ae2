"""Numbers with the interval they are known to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Estimate", "bootstrap", "median"]

_RESAMPLES = 1000
"""As many as percentile intervals are usually said to need (Efron and Tibshirani 1993, chapter 13)."""
_SEED = 0
"""Any one: the same measurements have the same interval."""


@dataclass(frozen=True)
class Estimate:
    """A value and its 95 % confidence interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}]"


def bootstrap(
    blocks: Sequence[NDArray[np.float64]],
    statistic: Callable[[NDArray[np.float64]], float],
    *,
    resamples: int = _RESAMPLES,
) -> Estimate:
    """`statistic` of all blocks together, with a percentile interval from resampling whole blocks, seeded.

    Tokens of one sequence depend on each other, so sequences are drawn, not tokens (block bootstrap; Künsch
    1989). With a single block the interval is the value itself. Bounds are draws, not means of two: an
    infinite one stays what it is.
    """
    value = statistic(np.concatenate(blocks))
    rng = np.random.default_rng(_SEED)
    draws = [
        statistic(np.concatenate([blocks[i] for i in rng.integers(0, len(blocks), len(blocks))]))
        for _ in range(resamples)
    ]
    low, high = np.percentile(draws, [2.5, 97.5], method="nearest")
    return Estimate(float(value), float(low), float(high))


def median(values: Sequence[float]) -> Estimate:
    """The median of independent `values`, with its bootstrap interval."""
    return bootstrap([np.asarray([value]) for value in values], lambda x: float(np.median(x)))
