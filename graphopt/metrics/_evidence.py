"""What was measured, before it becomes a number: exact values, values by document, and turns of processes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["Documents", "Evidence", "Exact", "Sample", "Statistic", "Turns"]

Statistic = Literal["mean", "exp_mean", "p99", "average_precision"]
"""Of all tokens of all documents together: their mean, exp of it (perplexity), their 99th percentile. Or of
images, whose values are rows of 13 as `detection_rows` makes them: `mean_average_precision`."""
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Exact:
    """A value that chance has no part in. `baseline`: the same of what the package is compared with."""

    value: float
    baseline: float | None = None


@dataclass(frozen=True)
class Documents:
    """Values of a package by document, float64[tokens of it] each, and its `baseline`'s on the same.

    Tokens of one document depend on each other, so documents are what is resampled, and both sides together.
    Sums are over all documents before anything is divided: a ratio of sums, never a mean of ratios.
    `names` identify documents (a digest of their text), so that results of two runs can be paired.
    """

    values: tuple[Floats, ...]
    baseline: tuple[Floats, ...] | None = None
    statistic: Statistic = "mean"
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Turns:
    """A quantity of speed, float64[blocks, turns of each side in a block], every entry a process of its own.

    In a block the sides take turns there and back (A B C C B A), so that what drifts evenly slows all of them
    alike. `control` is the package once more: how far equals are apart here and now (an A/A test).
    """

    values: Floats
    baseline: Floats | None = None
    control: Floats | None = None


Evidence = Exact | Documents | Turns


@dataclass(frozen=True)
class Sample:
    """Evidence of one metric (a key of `METRICS`), of one output or domain of the data (`scope`) if it has
    several."""

    metric: str
    evidence: Evidence
    scope: str = ""

    @property
    def title(self) -> str:
        """The metric, and of what."""
        return f"{self.metric} ({self.scope})" if self.scope else self.metric
