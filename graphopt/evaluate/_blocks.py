"""Blocks of fresh processes in which packages take turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from graphopt.evaluate import _processes
from graphopt.evaluate._measurement import Measurement
from graphopt.metrics import Turns

__all__ = ["BASELINE", "CONTROL", "PACKAGE", "Blocks"]

PACKAGE, BASELINE, CONTROL = "package", "baseline", "control"
"""The sides: what is measured, what it is compared with, and the package once more."""
_PATIENCE, _LEAST_LIMIT = 20, 60.0
"""A process hangs that takes so many times as long as all that warmed up, and a minute: where others
filled the processors, the same work took some ten times as long."""


class Blocks:
    """Measurements of each side, two in every block.

    `sides` are what a worker of each is told, by name. `blocks` counts those that are done, `seconds` what
    they took, without the warming up before the first; `found` has what each process said, by side and
    block. `look` is called before the first process of a block and after every one.
    """

    def __init__(self, sides: Mapping[str, Sequence[str]], look: Callable[[], None] = lambda: None) -> None:
        self._sides = {side: tuple(words) for side, words in sides.items()}
        self._look = look
        self.found: dict[str, list[list[Measurement]]] = {side: [] for side in sides}
        self.blocks = 0
        self.seconds = 0.0
        self._limit = _processes.LIMIT

    def add(self) -> None:
        """Measure one more block, and before the first one process of each folder that counts nothing.

        That one brings the files into memory and the processor to its speed: the first process of a folder
        would load from the disk, and the block's first side alone would pay for it.
        """
        self._look()
        started = time.perf_counter()
        if not self.blocks:
            _processes.measured(list(dict.fromkeys(self._sides.values())))
            self._limit = max(_LEAST_LIMIT, _PATIENCE * (time.perf_counter() - started))
            started = time.perf_counter()
        turns = turns_of(list(self._sides), self.blocks)
        found = _processes.measured([self._sides[side] for side in turns], self._look, seconds=self._limit)
        for side in self._sides:
            self.found[side].append([m for turn, m in zip(turns, found, strict=True) if turn == side])
        self.blocks += 1
        self.seconds += time.perf_counter() - started

    def values(self, side: str) -> dict[str, NDArray[np.float64]]:
        """What was measured of a side, by metric, float64[blocks, 2]."""
        found = [[m.metrics() for m in block] for block in self.found[side]]
        return {key: np.asarray([[turn[key] for turn in block] for block in found]) for key in found[0][0]}

    def turns(self, metric: str) -> Turns:
        """What was measured of `metric`. KeyError where it was not."""
        values = {side: self.values(side)[metric] for side in self._sides}
        return Turns(values[PACKAGE], values.get(BASELINE), values.get(CONTROL))


def turns_of(sides: Sequence[str], number: int) -> list[str]:
    """Who is measured when in block `number`: there and back, another side first in every block.

    What changes evenly over a block changes the mean of each side's two turns alike; the rest of it, and what
    it is to be the first of a block, comes to all of them as often.
    """
    first = number % len(sides)
    there = [*sides[first:], *sides[:first]]
    return [*there, *reversed(there)]
