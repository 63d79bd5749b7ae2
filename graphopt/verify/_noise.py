"""How far a source is from itself: what rounding to fewer bits does, apart from what a package does."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphopt.metrics import rms_difference, scaled_difference
from graphopt.verify._tolerance import LARGEST

__all__ = ["Noise", "is_rounded"]

_CHANCE = 1e-6
"""How often an equally noisy package may be refused: outputs and cases are thousands, packages are few."""
_TWICE = math.sqrt(2)
"""Two independent noises of one size add up to so many times it."""
_QUANTIZED = 2
"""Bytes of integers that are rounded numbers, not indices: runtimes quantize to 8 and 16 bits."""
_RMS = 0.25
"""Of many differences that are normally distributed the largest is about four times their RMS."""


@dataclass(frozen=True)
class Noise:
    """Two runs of one source apart, in standard deviations of an output with `size` entries.

    Integers that are not rounded numbers, but indices, have no such scale: `differing` of them do.
    """

    largest: float = 0.0
    rms: float = 0.0
    differing: float = 0.0
    size: int = 1

    @classmethod
    def of(cls, expected: NDArray[Any], got: NDArray[Any]) -> Noise:
        """That of one output. None where shapes differ, or what is finite: that is no rounding."""
        if not is_rounded(expected.dtype):
            apart = float(np.count_nonzero(expected != got)) if expected.shape == got.shape else 0.0
            return cls(differing=apart, size=expected.size)
        largest = scaled_difference(expected, got)
        if not math.isfinite(largest):
            return cls(size=expected.size)
        return cls(largest, rms_difference(expected, got), size=expected.size)

    def __or__(self, other: Noise) -> Noise:
        """The larger in each respect."""
        return Noise(
            max(self.largest, other.largest),
            max(self.rms, other.rms),
            max(self.differing, other.differing),
            max(self.size, other.size),
        )

    def largest_allowed(self, lossless: float) -> float:
        """How far a package may be off anywhere: `lossless` more than the source is by itself."""
        return min(lossless + self._factor() * self.largest, LARGEST)

    def rms_allowed(self, lossless: float) -> float:
        """How far a package may be off on the whole: it may round as often again as its source does."""
        return min(max(_RMS * lossless, self._factor() * self.rms), LARGEST)

    def _factor(self) -> float:
        """What an equally noisy run exceeds with a chance of 1e-6: much for few entries (an F test)."""
        from scipy.special import fdtri

        return max(_TWICE, 1 / math.sqrt(fdtri(self.size, self.size, _CHANCE)))


def is_rounded(dtype: np.dtype[Any]) -> bool:
    """Whether such arrays hold numbers that may be a little off: floats, and integers of 8 or 16 bits."""
    return np.issubdtype(dtype, np.floating) or (dtype.kind in "iu" and dtype.itemsize <= _QUANTIZED)
