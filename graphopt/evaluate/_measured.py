"""Numbers of a whole output beside what is expected of it, in which chance has no part."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphopt.metrics import cosine_similarity, rms_difference, scaled_difference, top1_mismatches

__all__ = ["COUNTED", "LARGEST", "TIE", "row_cosines"]

Array = NDArray[Any]

TIE = 2e-3
"""Standard deviations of an output by which a lossless package may swap two of its entries:
docs/architecture.md allows each to be off by half of it."""


def _mismatched(expected: Array, got: Array) -> int:
    return int(np.count_nonzero(expected != got)) if expected.shape == got.shape else expected.size


LARGEST: Mapping[str, Callable[[Array, Array], float]] = {
    "scaled_difference": scaled_difference,
    "rms_difference": rms_difference,
}
"""Of several calls the largest counts; arrays are expected and got, of floats."""
COUNTED: Mapping[str, Callable[[Array, Array], float]] = {
    "top1_mismatches": lambda expected, got: top1_mismatches(expected, got, TIE),
    "mismatched_values": _mismatched,
}
"""Of several calls the sum counts: the first of logits, the second of what is no float."""


def row_cosines(expected: Array, got: Array) -> NDArray[np.float64]:
    """Cosine of each row (last axis) of `expected`; all -1 where shapes differ."""
    if expected.shape != got.shape:
        return np.full(max(1, expected[..., 0].size), -1.0)
    return cosine_similarity(expected, got)
