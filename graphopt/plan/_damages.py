"""What damages of units come to together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Together"]

_POWERS = (0.5, 1.5)
"""What a fit may come to: damages of few plans, much alike, could be fitted by anything."""


@dataclass(frozen=True)
class Together:
    """The damage of all units is `scale` times the sum of theirs, to this `power`.

    KL divergence is quadratic in small errors, and errors of different weights are about independent, so
    damages about add: both numbers are near 1. Large ones do not, and those of layers one after another
    reinforce each other.
    """

    scale: float = 1.0
    power: float = 1.0

    def of(self, total: float) -> float:
        """The damage of a plan whose units' damages sum up to `total`."""
        return self.scale * total**self.power if total > 0 else 0.0

    def sum_for(self, damage: float) -> float:
        """What units' damages may sum up to where that of all is to be `damage`."""
        return float((damage / self.scale) ** (1 / self.power))

    @classmethod
    def fitted(cls, totals: Sequence[float], measured: Sequence[float]) -> Together:
        """From plans whose units' damages sum up to `totals`, and which were `measured` as they are."""
        x, y = np.log(totals), np.log(measured)
        spread = float(((x - x.mean()) ** 2).sum())
        power = 1.0
        if spread > math.log(2) ** 2:
            power = float(np.clip(((x - x.mean()) * (y - y.mean())).sum() / spread, *_POWERS))
        return cls(float(np.exp(y.mean() - power * x.mean())), power)
