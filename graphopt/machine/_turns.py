"""Calls that take turns, so that what disturbs one disturbs the others."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

__all__ = ["repeated", "settled", "turns"]

Group = TypeVar("Group")
Key = TypeVar("Key")
_SETTLE = 0.042
"""Seconds within which threads of onnxruntime 1.32 stop spinning for more work (40 ms, by hand)."""
_ROUNDS = 2
_LEAST, _MOST = 2, 24  # calls in a round
_LONG = 0.02
"""Seconds of a call that what its first time costs is small beside, so that this counts, too."""


def turns(
    groups: Mapping[Group, Mapping[Key, Callable[[], Any]]],
    seconds: float,
    threads: int,
    rounds: int = _ROUNDS,
) -> dict[tuple[Group, Key], list[float]]:
    """Seconds of each call of each group, several in each of so many rounds, about `seconds` in all.

    Groups take turns, each a session with so many `threads`. A short call is made once before it counts,
    since that wakes threads and makes memory.
    """
    taken: dict[tuple[Group, Key], list[float]] = {}
    for number in range(rounds):
        for group, calls in groups.items():
            if number == 0 or len(groups) > 1:
                settled(threads)
            for key, call in calls.items():
                first = _seconds(call)
                count = max(_LEAST, min(_MOST, int(seconds / rounds / first)))
                found = [first] if first > _LONG else []
                found += [_seconds(call) for _ in range(count - len(found))]
                taken.setdefault((group, key), []).extend(found)
    return taken


def settled(threads: int) -> None:
    """Let threads of sessions with so many, which no call needs any more, stop spinning."""
    if threads > 1:
        time.sleep(_SETTLE)


def repeated(call: Callable[[], Any], seconds: float) -> list[float]:
    """The same of one call."""
    return turns({None: {None: call}}, seconds, threads=1)[None, None]


def _seconds(call: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun
