"""Change points of a series: where its level moved, and not only its noise.

PELT (Killick, Fearnhead and Eckley, 2012, "Optimal detection of changepoints with a linear computational
cost") with the cost of a mean that moves, as implemented in `ruptures`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from graphopt.gate._history import HistorySeries
from graphopt.gate._words import described

__all__ = ["MINIMUM_RUNS", "HistoryChange", "changes"]

_STAY = 3
"""Runs that a level lasts at least: one run apart from its neighbours is an outlier, two may be one cause."""
MINIMUM_RUNS = 2 * _STAY
"""The fewest runs that can show a change of what varies by chance: before and after, `_STAY` each."""
_PENALTY = 10.0
"""What one more change costs, in variances of the noise and times log(runs).

BIC would have 2 for a known variance. With one that is estimated from as few as six runs, 10 keeps
series of noise (normal, and Student's t with 4 degrees of freedom) without a change in at
least 95 % of cases at every length from 6 to 200, as tests/gate/test_history_changes.py simulates.
"""
_QUIETEST = 1e-6
"""The least noise that is assumed, relative to the level: rounding, where runs repeat each other's values."""
_TO_SIGMA = 1.4826
"""The standard deviation over the median absolute deviation, of normal noise."""


@dataclass(frozen=True)
class HistoryChange:
    """The level of a series moves at `index`, the first point of the new level, from `before` to `after`
    (medians). `better` where that is the way the metric improves."""

    index: int
    before: float
    after: float
    better: bool


def changes(series: HistorySeries) -> list[HistoryChange]:
    """Where the level of a series moves. Of exact values every difference is a change, at any length."""
    values = np.array([point.value for point in series.points])
    if series.exact:
        found = [at for at in range(1, len(values)) if values[at] != values[at - 1]]
    else:
        found = _moved(values)
    ends = [0, *found, len(values)]
    larger = described(series.metric).better == "larger"
    result = []
    for start, at, stop in zip(ends, found, ends[2:], strict=False):
        before, after = float(np.median(values[start:at])), float(np.median(values[at:stop]))
        result.append(HistoryChange(at, before, after, (after > before) == larger))
    return result


def _moved(values: NDArray[np.float64]) -> list[int]:
    finite = np.isfinite(values)
    if len(values) < MINIMUM_RUNS or not finite.all():
        return []
    import ruptures

    positive = bool((values > 0).all())
    levels = np.log(values) if positive else values
    # Noise from differences of neighbours: a change is in one of them, and does not count as noise.
    noise = _TO_SIGMA * float(np.median(np.abs(np.diff(levels)))) / math.sqrt(2)
    floor = _QUIETEST * (1.0 if positive else max(1e-300, float(np.abs(levels).max())))
    scaled = ((levels - levels.mean()) / max(noise, floor)).reshape(-1, 1)
    search = ruptures.KernelCPD(kernel="linear", min_size=_STAY).fit(scaled)
    return [int(at) for at in search.predict(pen=_PENALTY * math.log(len(values)))[:-1]]
