"""Predicted numbers as people read them."""

from __future__ import annotations

import math

from graphopt.machine import Interval
from graphopt.metrics import Metric

__all__ = ["between", "figure", "said"]

_BYTES = ((1e15, "PB"), (1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"))
_SECONDS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"))


def said(interval: Interval, metric: Metric, *, bounds: bool = True) -> str:
    """The value in a unit that suits it, and where it is not exact the interval: "12.3 ms (11 to 14)"."""
    scale, unit = _unit(interval.value, metric.unit)
    value = figure(interval.value / scale)
    text = f"${value}" if unit == "$" else f"{value} {unit}".rstrip()
    exact = math.isclose(interval.low, interval.high, rel_tol=1e-9)
    if exact or not bounds:
        return text
    return f"{text} ({figure(interval.low / scale)} to {figure(interval.high / scale)})"


def between(interval: Interval, metric: Metric) -> str:
    """Both ends in the unit that `said` gives the value."""
    scale, _ = _unit(interval.value, metric.unit)
    return f"{figure(interval.low / scale)} and {figure(interval.high / scale)}"


def figure(value: float, digits: int = 3) -> str:
    """Three digits that count; what is below a million without an exponent: 3260, not 3.26e+03."""
    text = f"{value:.{digits}g}"
    return f"{float(text):.0f}" if "e+" in text and abs(value) < 1e6 else text


def _unit(value: float, unit: str) -> tuple[float, str]:
    if unit == "nats a token":
        return 1.0, ""
    steps = {"bytes": _BYTES, "s": _SECONDS}.get(unit)
    if steps is None:
        return 1.0, "" if unit == "bits" else unit
    return next(
        ((scale, name) for scale, name in steps if value >= scale),
        (1.0, "B") if unit == "bytes" else steps[-1],
    )
