"""How far what is predicted of plans is from what comes of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from _results import Row


def plan_errors(predicted: Sequence[float], measured: Sequence[float]) -> Row:
    """The median and the largest of relative errors."""
    off = 100 * np.abs(np.asarray(predicted) / np.asarray(measured) - 1)
    return {
        "plans": len(measured),
        "median_error_percent": float(np.median(off)),
        "largest_error_percent": float(off.max()),
    }
