"""What a measurement says of the true value: its interval, and how surely it is above or below a bound."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from graphopt.metrics._estimate import Estimate

__all__ = ["Drawn", "Inference", "Known", "Studentized", "Unknown"]

Floats = NDArray[np.float64]


class Inference(Protocol):
    """`value` is what was measured in `units` independent units: documents, or blocks of turns."""

    @property
    def value(self) -> float: ...
    @property
    def units(self) -> int: ...

    def interval(self, confidence: float) -> Estimate:
        """The value and its two-sided interval."""

    def p_above(self, bound: float) -> float:
        """One-sided p value of "the true value is above `bound`", tested against "it is at most `bound`".

        It is below `alpha` just where the interval of confidence 1 - 2 `alpha` lies above `bound`.
        """

    def p_below(self, bound: float) -> float:
        """The same of "the true value is below `bound`"."""


@dataclass(frozen=True)
class Known:
    """A value without chance: an exact one, or one that all units agree on."""

    value: float
    units: int = 1

    def interval(self, confidence: float) -> Estimate:
        return Estimate(self.value, self.value, self.value)

    def p_above(self, bound: float) -> float:
        return 0.0 if self.value > bound else 1.0

    def p_below(self, bound: float) -> float:
        return 0.0 if self.value < bound else 1.0


@dataclass(frozen=True)
class Unknown:
    """A value of one unit: nothing is known of how far another would be from it."""

    value: float
    units: int = 1

    def interval(self, confidence: float) -> Estimate:
        return Estimate(self.value, -math.inf, math.inf)

    def p_above(self, bound: float) -> float:
        return 1.0

    def p_below(self, bound: float) -> float:
        return 1.0


@dataclass(frozen=True)
class Studentized:
    """An estimate with a standard `error`, in whose units it is off by as much as `tail` says.

    `centre`, `error` and `tail` are of the logarithm of the value where `log`. `tail` is the degrees of
    freedom of Student's t, or draws of (estimate - truth) / error, sorted. Intervals end at `least` and
    `most`, which the true value cannot be beyond.
    """

    centre: float
    error: float
    tail: int | Floats
    units: int
    log: bool = False
    least: float = -math.inf
    most: float = math.inf

    @property
    def value(self) -> float:
        return self._outside(self.centre)

    def interval(self, confidence: float) -> Estimate:
        half = (1 - confidence) / 2
        low = self._outside(self.centre - self._quantile(1 - half) * self.error)
        high = self._outside(self.centre - self._quantile(half) * self.error)
        return Estimate(
            self.value, min(max(low, self.least), self.value), max(min(high, self.most), self.value)
        )

    def p_above(self, bound: float) -> float:
        return self._above(self.distance(bound))

    def p_below(self, bound: float) -> float:
        return self._below(self.distance(bound))

    def _outside(self, value: float) -> float:
        return float(np.exp(value)) if self.log else value

    def distance(self, bound: float) -> float:
        """From `bound` to the estimate, in standard errors."""
        if self.log:
            bound = math.log(bound) if bound > 0 else -math.inf
        return (self.centre - bound) / self.error

    def _quantile(self, share: float) -> float:
        from scipy import special

        if isinstance(self.tail, int):
            return float(special.stdtrit(self.tail, share))
        return float(np.quantile(self.tail, share))

    def _above(self, distance: float) -> float:
        """How often chance alone puts the estimate this far above the truth, or further."""
        from scipy import special

        if isinstance(self.tail, int):
            return float(special.stdtr(self.tail, -distance))
        return _share(len(self.tail) - int(np.searchsorted(self.tail, distance, side="left")), self.tail)

    def _below(self, distance: float) -> float:
        from scipy import special

        if isinstance(self.tail, int):
            return float(special.stdtr(self.tail, distance))
        return _share(int(np.searchsorted(self.tail, distance, side="right")), self.tail)


@dataclass(frozen=True)
class Drawn:
    """An estimate and `draws` of it from resampled units, sorted, read as expanded percentiles.

    Percentiles of draws are too narrow by sqrt((n - 1) / n) for n units, and know nothing of Student's t:
    further ones are taken by as much (Hesterberg 2015, "What teachers should know about the bootstrap",
    section 5.3, The American Statistician 69).
    """

    value: float
    draws: Floats
    units: int

    def interval(self, confidence: float) -> Estimate:
        from scipy import special

        half = (1 - confidence) / 2
        share = float(special.ndtr(self._expansion * special.stdtrit(self.units - 1, half)))
        low, high = np.quantile(self.draws, [share, 1 - share], method="nearest")
        return Estimate(self.value, min(float(low), self.value), max(float(high), self.value))

    def p_above(self, bound: float) -> float:
        return self._p(int(np.searchsorted(self.draws, bound, side="right")))

    def p_below(self, bound: float) -> float:
        return self._p(len(self.draws) - int(np.searchsorted(self.draws, bound, side="left")))

    def distance(self, bound: float) -> float:
        """From `bound` to the estimate, in standard errors."""
        finite = self.draws[np.isfinite(self.draws)]
        return (self.value - bound) / (float(finite.std()) * self._expansion) if len(finite) else math.inf

    @property
    def _expansion(self) -> float:
        return math.sqrt(self.units / (self.units - 1))

    def _p(self, contrary: int) -> float:
        """The p value where `contrary` draws are on the other side of the bound."""
        from scipy import special

        z = float(special.ndtri(_share(contrary, self.draws)))
        return float(special.stdtr(self.units - 1, z / self._expansion))


def _share(count: int, draws: Floats) -> float:
    """Never 0, for all draws together are one more sample (Davison and Hinkley 1997, section 4.2)."""
    return min((count + 1) / (len(draws) + 1), 1.0)
