"""How often one may look: chances of a wrong answer are spent little by little as blocks are added."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["MINIMUM_BLOCKS", "MOST_BLOCKS", "SPEED_BOUND", "level_at", "p_over_looks"]

MINIMUM_BLOCKS = 5
"""Fewer have too few degrees of freedom to decide by (docs/gates.md: chosen by simulation)."""
MOST_BLOCKS = 40
"""What looks are planned for (docs/gates.md: chosen by simulation)."""
SPEED_BOUND = 1.06
"""How many times as slow as its baseline a package may be, if nobody says (docs/gates.md: by simulation)."""
_LEVELS = tuple(float(level) for level in np.geomspace(1e-7, 0.5, 16))
"""Where p values over looks are computed; between them they are read from a straight line of logarithms."""
_GRID = 161
"""Points of the density of a sum over time: a step of 0.05, less than half of the least deviation of a
look."""
_FURTHEST = -5.0
"""Where that density begins: 3e-7 of it are below at the last look."""

Floats = NDArray[np.float64]


def level_at(look: int, most: int, alpha: float) -> float:
    """The p value that decides at `look` blocks of `most`, so that all looks together are wrong with `alpha`.

    Looks are at `MINIMUM_BLOCKS` and at every block after them, up to `most`; until t of the blocks are
    there, `alpha` t is spent (alpha spending, Lan and DeMets 1983, Biometrika 70; linear, Kim and DeMets
    1987, Biometrika 74, rho = 1). Looking less often is wrong less often, and the last look may come early:
    with `most` = `look`. Levels are those of a Brownian motion, and hold for p values of Student's t as well
    as significance levels do (Jennison and Turnbull 2000, section 4.4).
    """
    first = min(MINIMUM_BLOCKS, most)
    return _levels(most, alpha)[min(max(look, first), most) - first]


def p_over_looks(p: float, look: int, most: int) -> float:
    """The least `alpha` at which `p` would decide at this look: a repeated p value, true at any stop.

    Jennison and Turnbull 1989, "Interim analyses: the repeated confidence interval approach", Journal of the
    Royal Statistical Society B 51.
    """
    if p in (0.0, 1.0):
        return p
    known = [level_at(look, most, alpha) for alpha in _LEVELS]
    return float(np.exp(np.interp(np.log(p), np.log(known), np.log(_LEVELS), right=0.0)))


@lru_cache(maxsize=1024)
def _levels(most: int, alpha: float) -> tuple[float, ...]:
    """One-sided levels of all looks, by the recursion of Armitage, McPherson and Rowe 1969."""
    from scipy import optimize, special

    times = np.arange(min(MINIMUM_BLOCKS, most), most + 1) / most
    grid, weights, at = np.zeros(1), np.ones(1), 0.0
    levels = []
    for time in times:
        spread = np.sqrt(time - at)
        spent = (grid, weights, spread, alpha * (time - at))
        bound = optimize.brentq(_surplus, -2.0, 12.0, spent, xtol=1e-10)
        levels.append(float(special.ndtr(-bound / np.sqrt(time))))
        after = np.linspace(_FURTHEST, bound, _GRID)
        kernel = np.exp(-0.5 * ((after[:, None] - grid) / spread) ** 2) / (spread * np.sqrt(2 * np.pi))
        density = kernel @ weights
        grid, at = after, time
        weights = density * (after[1] - after[0])
        weights[[0, -1]] /= 2
    return tuple(levels)


def _surplus(bound: float, grid: Floats, weights: Floats, spread: float, spent: float) -> float:
    """How much likelier than `spent` a sum of this density is to be beyond `bound` after the next step."""
    from scipy import special

    return float(weights @ special.ndtr((grid - bound) / spread)) - spent
