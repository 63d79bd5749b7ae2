"""Machines that measure badly, simulated: turns of a package, its baseline and its control.

Logarithms of a quantity are `log(slowdown)` of the package, a drift of the machine over all turns in the
order of `Turns` (A B C C B A in a block), and noise of each turn, a process of its own, of standard deviation
`cv`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from graphopt.metrics import Turns

__all__ = ["KINDS", "growing", "turns"]

KINDS = {
    "steady": "independent normal noise of each process",
    "linear drift": "normal noise, and a machine that gets 30 % slower in the course of the run",
    "random walk": "normal noise, and a random walk with steps of half the CV from process to process",
    "heavy tails": "noise of Student's t with 3 degrees of freedom",
    "shifts": "normal noise of half the variance; of processes 15 % are slower all through, exponentially",
}
DRIFT = 0.3
"""Of the logarithm, from the first turn to the last."""
STEP = 0.5
"""Of the random walk, in CV a process."""
SHIFTED = 0.15
"""Share of processes that something slows from beginning to end (memory laid out badly, a busy neighbour)."""
SIDES = 6
"""Turns of a block: A B C C B A."""

Floats = NDArray[np.float64]


def turns(rng: np.random.Generator, kind: str, cv: float, blocks: int, slowdown: float = 1.0) -> Turns:
    """A run of `blocks` on a machine of that `kind`; the package is `slowdown` times as slow as its
    baseline."""
    size = blocks * SIDES
    logs = _noise(rng, kind, cv, size)
    if kind == "linear drift":
        logs += np.linspace(0, DRIFT, size)
    elif kind == "random walk":
        logs += np.cumsum(rng.normal(0, STEP * cv, size))
    values = np.exp(logs.reshape(blocks, SIDES))
    package, baseline, control = values[:, [0, 5]], values[:, [1, 4]], values[:, [2, 3]]
    return Turns(package * slowdown, baseline, control * slowdown)


def _noise(rng: np.random.Generator, kind: str, cv: float, size: int) -> Floats:
    if kind == "heavy tails":
        return rng.standard_t(3, size) * cv / np.sqrt(3)
    if kind == "shifts":
        slowed = (rng.random(size) < SHIFTED) * rng.exponential(size=size)
        spread = np.sqrt(2 * SHIFTED - SHIFTED**2)
        return np.sqrt(0.5) * cv * (rng.normal(size=size) + (slowed - SHIFTED) / spread)
    return rng.normal(0, cv, size)


def growing(run: Turns, first: int) -> Iterator[tuple[int, Turns]]:
    """What is known of `run` after `first` blocks, and after each one more."""
    assert run.baseline is not None
    assert run.control is not None
    for count in range(first, len(run.values) + 1):
        yield count, Turns(run.values[:count], run.baseline[:count], run.control[:count])
