"""Whether a graph is slower than another, measured in this process in a second or so."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from graphopt.interface import Arrays
from graphopt.metrics import Estimate, median

__all__ = ["Beside", "run_beside"]

_OPENED = 4
"""Times that sessions are opened: where memory comes to lie is settled then, and may cost a few percent."""
_ROUNDS, _FEW = 6, 2
"""Of each of these; few where one takes long."""
_PIECE = 0.006
"""Seconds that the calls of a round take at least: long beside what a timer is off by."""
_LONG = 0.05
"""Seconds of a call that takes long."""

_SPINNING = 0.05
"""Seconds for which onnxruntime's threads spin on after a call, and take a core from whoever is next."""

Opened = tuple[Any, Arrays]
"""A session, and what it is fed."""


@dataclass(frozen=True)
class Beside:
    """How many times as fast as the first a graph is, and the first beside itself, opened once more."""

    speed: Estimate
    control: Estimate

    @property
    def slower(self) -> bool:
        """Whether it is so beyond noise: further than equals may be apart, whichever of them comes first."""
        return self.speed.high < min(self.control.low, 1 / self.control.high)


def run_beside(first: Callable[[], Opened], other: Callable[[], Opened], *, threads: int) -> Beside:
    """Run the graph that `other` opens and the one that `first` opens, on so many threads each, in turns.

    A round's time is the shortest of its calls: others that run meanwhile lengthen all but that.
    """
    speeds, controls = [], []
    for turn in range(_OPENED):
        openings = [first, first, other]
        sides = {index: openings[index]() for index in _rotated(turn)}
        counts = {index: _count(side) for index, side in sides.items()}
        for number in range(_ROUNDS):
            times: dict[int, float] = {}
            for index in _rotated(turn + number):
                if threads > 1:
                    time.sleep(_SPINNING)
                times[index] = _seconds(sides[index], counts[index])
            speeds.append(times[0] / times[2])
            controls.append(times[0] / times[1])
            if number + 1 >= _FEW and times[0] > _LONG:
                break
    return Beside(median(speeds), median(controls))


def _rotated(start: int) -> list[int]:
    return [(start + index) % 3 for index in range(3)]


def _count(side: Opened) -> int:
    _seconds(side, 1)
    return max(1, round(_PIECE / _seconds(side, 2)))


def _seconds(side: Opened, count: int) -> float:
    session, feeds = side
    least = float("inf")
    for _ in range(count):
        begun = time.perf_counter()
        session.run(None, feeds)
        least = min(least, time.perf_counter() - begun)
    return least
