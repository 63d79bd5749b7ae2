"""How far a cache of integers reaches in each channel: some is clipped where the rest gains more by it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Reach"]

_OCTAVE = 32
"""Bins of one: where to clip is chosen to 2 %."""
_OCTAVES = 8
"""How many below the largest magnitude count; the rest is rounded away whatever is chosen."""
_LEAST = -64
"""Binary logarithm of what counts as zero."""
_BINS = 128 * _OCTAVE
"""Up to a logarithm of 64: no activation is larger."""
_CLIPPED = {4: 1.0, 8: 64.0}
"""By bits, how much the square of what is clipped counts over that of what is rounded: it has always one
sign, and is of tokens that many look at. Measured on three models: docs/decisions/kv-cache.md."""


class Reach:
    """Magnitudes in each of `channels`, counted in parts of an octave, and where to clip them."""

    def __init__(self, channels: int) -> None:
        self._counts = np.zeros((channels, _BINS), np.int32)
        self._largest = np.zeros(channels, np.float32)

    def add(self, magnitudes: NDArray[Any]) -> None:
        """Count magnitudes [rows, channels], none below zero, too."""
        with np.errstate(divide="ignore"):
            octaves = np.log2(magnitudes.astype(np.float32)) - np.float32(_LEAST)
        bins = np.clip(np.ceil(octaves * _OCTAVE), 0, _BINS - 1).astype(np.int64)
        places = bins + np.arange(len(self._largest)) * _BINS
        self._counts += np.bincount(places.ravel(), minlength=self._counts.size).reshape(self._counts.shape)
        np.maximum(self._largest, magnitudes.max(0, initial=0), out=self._largest)

    def limits(self, bits: int) -> NDArray[np.float32]:
        """Where magnitudes are clipped, float32 [channels]: where the squared error is least.

        What is clipped counts by more than what is rounded to the levels of `bits` (4 or 8).
        """
        count = _OCTAVE * _OCTAVES
        seen = self._counts.any(1)
        top = np.where(seen, _BINS - 1 - np.argmax(self._counts[:, ::-1] > 0, 1), 0)
        bins = np.maximum(top[:, None] - np.arange(count), 0)
        below_top = np.take_along_axis(self._counts, bins, 1).astype(np.float64)
        magnitudes = 2.0 ** (-(np.arange(count) + 0.5) / _OCTAVE)
        reach = 2.0 ** (-np.arange(count) / _OCTAVE)
        step = reach / (2 ** (bits - 1) - 1)
        rounded = np.minimum(magnitudes**2, step[:, None] ** 2 / 12)
        beyond = np.maximum(magnitudes - reach[:, None], 0)
        error = np.where(beyond > 0, _CLIPPED[bits] * beyond**2, rounded)
        best = np.argmin(below_top @ error.T, 1)
        limit: NDArray[np.float32] = (2.0 ** ((top - best) / _OCTAVE + _LEAST)).astype(np.float32)
        return np.where(seen, np.minimum(limit, self._largest), 0).astype(np.float32)
