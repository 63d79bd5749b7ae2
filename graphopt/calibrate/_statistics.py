"""What is kept of activations that are seen once, a call after the other.

Each is given arrays [..., k] in order, and is the same for the same arrays on any number of threads.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphopt.calibrate._rows import as_rows

__all__ = ["AbsoluteMean", "Histogram", "Ranges", "RowSample"]


class AbsoluteMean:
    """The mean magnitude of each of `k` channels."""

    def __init__(self, k: int) -> None:
        self.k = k
        self.rows = 0
        self._sum = np.zeros(k)

    def add(self, array: NDArray[Any]) -> None:
        """Count the rows of `array` [..., k] too."""
        rows = as_rows(array, self.k)
        self.rows += len(rows)
        self._sum += np.abs(rows).sum(0, dtype=np.float64)

    @property
    def mean(self) -> NDArray[np.float32]:
        """float32 [k]; zeros where there was no row."""
        return (self._sum / max(self.rows, 1)).astype(np.float32)


class Ranges:
    """The least and the largest entry of each of `k` channels: `low` and `high`, float32 [k].

    Without a row they are inf and -inf.
    """

    def __init__(self, k: int) -> None:
        self.k = k
        self.rows = 0
        self.low = np.full(k, np.inf, np.float32)
        self.high = np.full(k, -np.inf, np.float32)

    def add(self, array: NDArray[Any]) -> None:
        """Count the rows of `array` [..., k] too."""
        rows = as_rows(array, self.k)
        self.rows += len(rows)
        np.minimum(self.low, rows.min(0, initial=np.inf), out=self.low)
        np.maximum(self.high, rows.max(0, initial=-np.inf), out=self.high)

    @property
    def largest(self) -> NDArray[np.float32]:
        """The largest magnitude of each channel."""
        return np.maximum(np.abs(self.low), np.abs(self.high))


class RowSample:
    """At most `limit` of all rows of `k`, drawn without replacement, each as likely as any other.

    The draw depends on how many rows there were before, and on nothing else: two samples of equal limits
    that are given values of the same calls, such as what goes into a layer and what comes out, keep the same
    places.
    """

    def __init__(self, k: int, limit: int) -> None:
        self.k, self.limit = k, limit
        self.rows = 0
        """How many rows were added."""
        self._rng = np.random.default_rng(0)
        self._kept = np.empty((0, k), np.float32)
        self._drawn = np.empty(0)

    def add(self, array: NDArray[Any]) -> None:
        """Let the rows of `array` [..., k] take part."""
        rows = as_rows(array, self.k)
        self.rows += len(rows)
        drawn = np.concatenate([self._drawn, self._rng.random(len(rows))])
        chosen = np.sort(np.argsort(drawn, kind="stable")[: self.limit])
        before = len(self._kept)
        new = chosen[chosen >= before]
        self._kept = np.concatenate([self._kept[chosen[chosen < before]], rows[new - before]])
        self._drawn = drawn[chosen]

    @property
    def sample(self) -> NDArray[np.float32]:
        """float32 [at most limit, k], in the order in which they were seen."""
        return self._kept


class Histogram:
    """How many entries of arrays of any shape lie in each of `bins` equal parts of [-limit, limit].

    `limit` is the least power of two above every magnitude so far: where it doubles, bins join in pairs, so
    that nothing is lost that a second look would find.
    """

    def __init__(self, bins: int = 4096) -> None:
        if bins % 4:
            raise ValueError(f"{bins} bins do not join in pairs on both sides of zero")
        self.counts = np.zeros(bins, np.int64)
        self.limit = 0.0

    def add(self, array: NDArray[Any]) -> None:
        """Count the entries of `array` too."""
        values = np.asarray(array, np.float32).ravel()
        largest = float(np.abs(values).max(initial=0))
        if largest:
            self._reach(2.0 ** math.frexp(largest)[1])
        bins = len(self.counts)
        places = np.floor(values.astype(np.float64) * (bins / 2 / self.limit)) if self.limit else values * 0
        self.counts += np.bincount((places + bins // 2).astype(np.int64), minlength=bins)

    @property
    def edges(self) -> NDArray[np.float64]:
        """float64 [bins + 1]: where bins begin and end."""
        return np.linspace(-self.limit, self.limit, len(self.counts) + 1)

    def _reach(self, limit: float) -> None:
        self.limit = self.limit or limit
        while self.limit < limit:
            self.limit *= 2
            joined = self.counts.reshape(-1, 2).sum(1)
            self.counts[:] = 0
            quarter = len(self.counts) // 4
            self.counts[quarter : quarter + len(joined)] = joined
