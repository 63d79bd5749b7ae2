"""Values between measured points, and how far off they may be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Guess", "Surface"]

Floats = NDArray[np.float64]

_PRIOR_SPREAD, _PRIOR_WEIGHT = 0.2, 2.0
"""Standard deviation that logarithms of rates are believed to have before any is known, and how many
measured points that belief is worth."""
_BEYOND = 0.15
"""Standard deviation added for each factor of e that a size lies beyond all that were measured."""


@dataclass(frozen=True)
class Guess:
    """A logarithm, its standard deviation, and how far beyond the measured points it was asked for."""

    value: float
    sd: float
    beyond: float = 0.0


class Surface:
    """Ordinary kriging (Cressie 1993, chapter 3) of values at points [n, d] with an exponential covariance.

    In one dimension that is nearly a straight line between neighbours, on a grid nearly the multilinear
    interpolation; variance grows with the distance to what was measured, the more the values themselves
    vary. `sds` are standard deviations of the values. `reach` is by dimension the distance over which values
    become strangers. Beyond the box of the points the value is that at its border.
    """

    def __init__(self, points: ArrayLike, values: ArrayLike, sds: ArrayLike, reach: ArrayLike) -> None:
        self._points: Floats = np.asarray(points, np.float64)
        self._reach: Floats = np.asarray(reach, np.float64)
        values, sds = np.asarray(values, np.float64), np.asarray(sds, np.float64)
        self._low, self._high = self._points.min(0), self._points.max(0)
        likeness = self._likeness(self._points[:, None] - self._points[None])
        count = len(values)
        rough = np.linalg.inv(likeness + 1e-9 * np.eye(count))
        mean = rough.sum(0) @ values / rough.sum()
        off = values - mean
        believed = off @ rough @ off + _PRIOR_WEIGHT * _PRIOR_SPREAD**2
        self._variance = float(believed / (count - 1 + _PRIOR_WEIGHT))
        self._inverse = np.linalg.inv(self._variance * likeness + np.diag(sds**2 + 1e-10))
        self._sum = float(self._inverse.sum())
        self._mean = float(self._inverse.sum(0) @ values / self._sum)
        self._weights: Floats = self._inverse @ (values - self._mean)

    def at(self, point: ArrayLike) -> Guess:
        """The value at a point [d]."""
        asked = np.asarray(point, np.float64)
        inside = np.clip(asked, self._low, self._high)
        beyond = float(np.abs(asked - inside).sum())
        near = self._variance * self._likeness(self._points - inside)
        value = self._mean + float(near @ self._weights)
        left = 1 - float(self._inverse.sum(0) @ near)
        variance = self._variance - float(near @ self._inverse @ near) + left**2 / self._sum
        return Guess(value, float(np.sqrt(max(variance, 0.0) + (_BEYOND * beyond) ** 2)), beyond)

    def _likeness(self, apart: Any) -> Floats:
        return np.exp(-np.sum(np.abs(apart) / self._reach, axis=-1))  # type: ignore[no-any-return]
