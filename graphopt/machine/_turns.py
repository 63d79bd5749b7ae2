"""Calls that take turns, so that what disturbs one disturbs the others."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

__all__ = ["SETTLE", "repeated", "turns"]

Key = TypeVar("Key")
SETTLE = 0.05
"""Seconds within which threads of onnxruntime 1.32 stop spinning for more work (40 ms, by hand)."""
_ROUNDS = 3
_MOST = 8  # calls in a round: more tell nothing of what changes in time


def turns(calls: Mapping[Key, Callable[[], Any]], seconds: float, settle: bool) -> dict[Key, list[float]]:
    """Seconds of each call, several of them in each of three rounds, in which all take about `seconds`.

    In each round a call is made once before it counts: it wakes the threads. `settle`: those of the others
    are given the time to stop spinning.
    """
    taken: dict[Key, list[float]] = {key: [] for key in calls}
    for _ in range(_ROUNDS):
        for key, call in calls.items():
            if settle:
                time.sleep(SETTLE)
            first = _seconds(call)
            count = max(1, min(_MOST, int(seconds / _ROUNDS / first)))
            taken[key] += [_seconds(call) for _ in range(count)]
    return taken


def repeated(call: Callable[[], Any], seconds: float) -> list[float]:
    """The same of one call."""
    return turns({None: call}, seconds, settle=False)[None]


def _seconds(call: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun
