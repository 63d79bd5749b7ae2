"""Where activations are clipped before they are rounded to 8 bits: from what was counted of them."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from graphopt.calibrate import Histogram

__all__ = ["FEWEST", "Method", "Observed", "Span"]

Method = Literal["minmax", "percentile", "entropy", "mse"]
Span = tuple[float, float]
"""The least and the largest value that is not clipped; zero lies between them."""

FEWEST: dict[Method, int] = {"minmax": 1, "percentile": 8, "mse": 8, "entropy": 16}
"""Samples that each method needs. A judgement: shares of a distribution are not told from fewer."""
_LEVELS = 255
"""Steps between the least and the largest integer of 8 bits."""
_PARTS, _LEAST = 128, 8
"""Candidates are so many parts of the whole range, from the second number of them on."""
_CLIPPED = 8.0
"""How much the square of what is clipped counts over that of what is rounded: it has always one sign, and is
of the largest values. Measured on two trained nets: docs/decisions/static-int8.md."""
_TINY = 1e-12
"""Of a probability, where rounding leaves nothing: the divergence is large then, not infinite."""


class Observed:
    """The range and a histogram of a value of any shape, seen a call at a time: 32 kB whatever it is."""

    def __init__(self) -> None:
        self.low = self.high = 0.0
        self._histogram = Histogram()

    def add(self, array: NDArray[Any]) -> None:
        """Count the entries of `array` too."""
        if array.size:
            self.low = min(self.low, float(array.min()))
            self.high = max(self.high, float(array.max()))
            self._histogram.add(array)

    def span(self, method: Method, percentile: float = 99.99) -> Span:
        """Where `method` clips.

        minmax: nowhere. percentile: outside are 100 - `percentile` of 100 entries, as many on either side.
        mse: the squared error of rounding, and eight times that of clipping, is least. entropy: the
        Kullback-Leibler divergence of the rounded distribution from the distribution is (Migacz, "8-bit
        inference with TensorRT", 2017).
        """
        if method == "minmax" or self.low == self.high:
            return self.low, self.high
        if method == "percentile":
            return self._between((1 - percentile / 100) / 2)
        loss = self._squared_error if method == "mse" else self._divergence
        return self._best(loss)

    def _between(self, outside: float) -> Span:
        edges = self._histogram.edges
        total = np.concatenate([[0], np.cumsum(self._histogram.counts)])
        found = np.interp(np.asarray([outside, 1 - outside]) * total[-1], total, edges)
        return max(self.low, min(float(found[0]), 0.0)), min(self.high, max(float(found[1]), 0.0))

    def _best(self, loss: Any) -> Span:
        """Both ends drawn in together, and then each by itself."""
        parts = np.arange(_LEAST, _PARTS + 1) / _PARTS
        low, high = self.low, self.high
        for ends in ((True, True), (False, True), (True, False)):
            candidates = [(low * p if ends[0] else low, high * p if ends[1] else high) for p in parts]
            losses = [loss(*span) for span in candidates]
            low, high = candidates[len(parts) - 1 - int(np.argmin(losses[::-1]))]
        return float(low), float(high)

    def _places(self, low: float, high: float) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Counts and centres of bins that have entries, and the level of each between `low` and `high`."""
        edges, counts = self._histogram.edges, self._histogram.counts
        held = counts > 0
        centres = ((edges[1:] + edges[:-1]) / 2)[held]
        levels = np.rint((np.clip(centres, low, high) - low) / ((high - low) / _LEVELS))
        return counts[held].astype(np.float64), centres, levels.astype(np.int64)

    def _squared_error(self, low: float, high: float) -> float:
        if low == high:
            return float("inf")
        counts, centres, levels = self._places(low, high)
        error = low + levels * ((high - low) / _LEVELS) - centres
        weights = np.where((centres < low) | (centres > high), _CLIPPED, 1.0)
        return float(counts @ (weights * error**2))

    def _divergence(self, low: float, high: float) -> float:
        if low == high:
            return float("inf")
        counts, centres, levels = self._places(low, high)
        inside = (centres >= low) & (centres <= high)
        if not inside.any():
            return float("inf")
        kept, of_level = counts[inside], levels[inside]
        p = kept.copy()
        p[0] += counts[centres < low].sum()
        p[-1] += counts[centres > high].sum()
        q = (np.bincount(of_level, kept) / np.maximum(np.bincount(of_level), 1))[of_level]
        p, q = p / p.sum(), np.maximum(q / q.sum(), _TINY)
        return float(p @ np.log(p / q))
