"""From repeated measurements to the interval that nine of ten later ones lie in."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from graphopt.machine._profile import Interval

__all__ = ["difference_of", "interval_of", "scaled"]

_MANY = 20
"""Samples from which on their quantiles say where nine of ten lie."""
_FARTHEST = 3.0
"""Of the second farthest: of so few normal samples one in twenty is farther. A judgement."""
_LEAST = 0.1
"""A cost that is a difference is at least so much of what its share of the longer call is: measurements that
nearly cancel do not say that something costs nothing. A judgement."""


def interval_of(samples: Sequence[float]) -> Interval:
    """The median of `samples`, all above zero, and where 90 % of later measurements lie.

    Of few samples: by Student's t for one more measurement, on logarithms (Hahn and Meeker, Statistical
    Intervals, 1991). The one farthest from the median counts as at most three times as far as the next, so
    that one disturbed sample is not all there is to say. Of many: their quantiles.
    """
    values = np.asarray(samples, np.float64)
    middle = float(np.median(values))
    if len(values) >= _MANY:
        low, high = (float(q) for q in np.quantile(values, (0.05, 0.95)))
    else:
        reach = _reach(np.log(values / middle))
        low, high = middle * math.exp(-reach), middle * math.exp(reach)
    return Interval(value=middle, low=min(low, middle), high=max(high, middle))


def _reach(off: NDArray[np.float64]) -> float:
    """How far from the median one more sample is, at most, where some are so far `off`."""
    if len(off) < 2:
        return 0.0
    *rest, second, farthest = np.sort(np.abs(off))
    squares = float(np.sum(np.square([*rest, second, min(farthest, _FARTHEST * second)])))
    freedom = len(off) - 1
    return _students_t(freedom) * math.sqrt(squares / freedom * (1 + 1 / len(off)))


def difference_of(longer: Sequence[float], shorter: Sequence[float], count: int) -> Interval:
    """What each of `count` things costs that calls taking `longer` do beyond those taking `shorter`."""
    whole, rest = interval_of(longer), float(np.median(shorter))

    def each(seconds: float) -> float:
        return max(seconds - rest, _LEAST * whole.value) / count

    return Interval(value=each(whole.value), low=each(whole.low), high=each(whole.high))


def scaled(interval: Interval, factor: float) -> Interval:
    """`factor` times as much."""
    return Interval(**{name: factor * value for name, value in interval.model_dump().items()})


def _students_t(freedom: int) -> float:
    from scipy.stats import t

    return float(t.ppf(0.95, freedom))
