"""Values of metrics as people read them, in the unit that suits their size."""

from __future__ import annotations

import math
from collections.abc import Sequence

from graphopt.metrics import METRICS
from graphopt.report._text import number

__all__ = ["quantity_text", "unit_of"]

_PREFIXES = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


def quantity_text(metric: str, value: float, *, short: bool = False) -> str:
    """`value` of a metric (by key) with its unit, which `short` leaves out where it is words."""
    unit, factor = unit_of(metric, [value])
    if not unit:
        return f"{value:.4g}"
    return number(value * factor) if short and " " in unit else f"{number(value * factor)} {unit}"


def unit_of(metric: str, values: Sequence[float]) -> tuple[str, float]:
    """The unit that suits the largest of `values` of a metric, and the factor into it."""
    unit = METRICS[metric].unit
    most = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    if unit == "s" and most < 1:
        return "ms", 1e3
    if unit in ("bytes", "FLOP"):
        letter = "B" if unit == "bytes" else unit
        fitting = ((prefix + letter, 1 / scale) for scale, prefix in _PREFIXES if most >= scale)
        return next(fitting, (letter, 1.0))
    return unit, 1.0
