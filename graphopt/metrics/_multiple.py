"""Several questions at once: p values corrected for how many were asked; and two answers to the same ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["benjamini_hochberg", "holm", "mcnemar"]


def holm(p: Sequence[float]) -> list[float]:
    """Adjusted p values, in the order given. That any of those below `alpha` is wrong has at most `alpha`.

    Whatever depends on what. Holm 1979, "A simple sequentially rejective multiple test procedure",
    Scandinavian Journal of Statistics 6.
    """
    order = np.argsort(p, kind="stable")
    factors = len(p) - np.arange(len(p))
    adjusted = np.empty(len(p))
    adjusted[order] = np.maximum.accumulate(np.asarray(p, np.float64)[order] * factors).clip(max=1)
    return adjusted.tolist()


def benjamini_hochberg(p: Sequence[float]) -> list[float]:
    """Adjusted p values, in the order given. Of those below `alpha` a share of `alpha` is expected wrong.

    Benjamini and Hochberg 1995, "Controlling the false discovery rate", Journal of the Royal Statistical
    Society B 57.
    """
    from scipy import stats

    return [float(value) for value in stats.false_discovery_control(list(p))] if p else []


def mcnemar(won: int, lost: int) -> float:
    """Exact two-sided p value of "both answer as many questions right", from those only one answers right.

    McNemar 1947, "Note on the sampling error of the difference between correlated proportions", Psychometrika
    12; exact by the binomial distribution.
    """
    from scipy import special

    fewer = min(won, lost)
    return min(1.0, 2 * float(special.bdtr(fewer, won + lost, 0.5)))
