"""The units that people write bounds in."""

from __future__ import annotations

__all__ = ["SAID", "UNITS"]

_TIMES = {"us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0}
_BYTES = {"B": 1.0, "kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}
_BINARY_BYTES = {"KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30}
UNITS: dict[str, dict[str, float]] = {
    "s": _TIMES,
    "bytes": _BYTES | _BINARY_BYTES | {"bytes": 1.0},
    "FLOP": {"FLOP": 1.0, "MFLOP": 1e6, "GFLOP": 1e9, "TFLOP": 1e12},
    "nats a token": {"nats": 1.0},
    "tokens/s": {"tokens/s": 1.0, "tok/s": 1.0},
    "calls/s": {"calls/s": 1.0},
    "$": {"$": 1.0, "USD": 1.0},
    "": {"%": 0.01},
}
"""By the unit of a metric, what its bounds may be written in, and how many of the metric's unit that is."""
SAID = frozenset({"s", "bytes", "FLOP", "tokens/s", "calls/s"})
"""Units that are never left out: who forgets the ms of 20ms would otherwise say 20 s."""
