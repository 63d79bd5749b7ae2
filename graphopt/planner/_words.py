"""Predicted numbers as people read them."""

from __future__ import annotations

import math

from graphopt.machine import Interval
from graphopt.metrics import Metric

__all__ = ["said"]

_BYTES = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"))
_SECONDS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"))


def said(interval: Interval, metric: Metric, *, bounds: bool = True) -> str:
    """The value in a unit that suits it, and where it is not exact the interval: "12.3 ms (11 to 14)"."""
    scale, unit = _unit(interval.value, metric.unit)
    value = f"${interval.value / scale:.3g}" if unit == "$" else f"{interval.value / scale:.3g}"
    text = value if unit in ("", "$") else f"{value} {unit}"
    exact = math.isclose(interval.low, interval.high, rel_tol=1e-9)
    return (
        text if exact or not bounds else f"{text} ({interval.low / scale:.3g} to {interval.high / scale:.3g})"
    )


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
