"""One choice for each unit: the least of one cost, the sums of others kept within limits."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["Costs", "solve", "total"]

Costs = Mapping[str, float]
"""What a choice costs, by the name of the cost."""
_EXACT = 1e-12
"""Relative to a limit: by how much a sum may be beyond it. Sums of floats in another order differ by less."""
_TRIES = 8


def total(choices: Sequence[Sequence[Costs]], chosen: Sequence[int], cost: str) -> float:
    """The sum of a cost over what is chosen of each unit."""
    return float(sum(unit[index][cost] for unit, index in zip(choices, chosen, strict=True)))


def solve(
    choices: Sequence[Sequence[Costs]], objective: str, limits: Mapping[str, float]
) -> tuple[int, ...] | None:
    """The index of a choice for each unit, so that the sum of `objective` is least; None where no choices do.

    The sum of every cost in `limits` stays within its limit. This is the multiple-choice knapsack problem,
    solved as an integer program by HiGHS, whose answers do not depend on the machine or its threads.
    """
    kept = [_undominated(unit, (objective, *limits)) for unit in choices]
    aims = dict(limits)
    for _ in range(_TRIES):
        found = _milp(
            [[unit[i] for i in few] for unit, few in zip(choices, kept, strict=True)], objective, aims
        )
        if found is None:
            return None
        chosen = tuple(few[i] for few, i in zip(kept, found, strict=True))
        beyond = {
            cost: over
            for cost, limit in limits.items()
            if (over := total(choices, chosen, cost) - limit) > _EXACT * abs(limit)
        }
        if not beyond:
            return chosen
        # The solver keeps rows to a tolerance of its own: ask for as much less.
        for cost, over in beyond.items():
            aims[cost] -= 2 * over
    return None


def _undominated(unit: Sequence[Costs], costs: Sequence[str]) -> list[int]:
    """The choices that no other is as good as in all of `costs`."""
    points = [tuple(choice[cost] for cost in costs) for choice in unit]
    return [
        i
        for i, mine in enumerate(points)
        if not any(
            all(a <= b for a, b in zip(other, mine, strict=True)) and (other != mine or j < i)
            for j, other in enumerate(points)
            if j != i
        )
    ]


def _milp(
    choices: Sequence[Sequence[Costs]], objective: str, limits: Mapping[str, float]
) -> list[int] | None:
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import csr_array

    flat = [choice for unit in choices for choice in unit]
    sizes = [len(unit) for unit in choices]
    starts = np.cumsum([0, *sizes])
    one_each = csr_array(
        (np.ones(len(flat)), (np.repeat(np.arange(len(sizes)), sizes), np.arange(len(flat))))
    )
    constraints = [LinearConstraint(one_each, 1, 1)]
    for cost, limit in limits.items():
        row, bound = _scaled(_column(flat, cost), limit)
        constraints.append(LinearConstraint(row[None], -np.inf, bound))
    weights = _column(flat, objective)
    with _silent():
        found = milp(
            weights / (np.abs(weights).max() or 1.0),
            integrality=np.ones(len(flat)),
            bounds=Bounds(0, 1),
            constraints=constraints,
            options={"mip_rel_gap": 1e-6},
        )
    if found.x is None:
        return None
    return [int(np.argmax(found.x[a:b])) for a, b in _pairs(starts)]


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Standard output is that of commands: HiGHS 1.12, in scipy 1.17, writes to it whatever it is told."""
    sys.stdout.flush()
    kept = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


def _pairs(starts: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    return zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True)


def _column(choices: Sequence[Costs], cost: str) -> NDArray[np.float64]:
    return np.asarray([choice[cost] for choice in choices], np.float64)


def _scaled(row: NDArray[np.float64], limit: float) -> tuple[NDArray[np.float64], float]:
    """The same inequality with numbers about 1, which a solver's tolerances are made for."""
    size = float(np.abs(row).max()) or 1.0
    return row / size, limit / size + _EXACT * abs(limit) / size
