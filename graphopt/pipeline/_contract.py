"""What a pass promises about the numbers, and the opsets it understands."""

from __future__ import annotations

import enum
from dataclasses import dataclass

__all__ = ["Contract", "Level", "OpsetRange"]


class Level(enum.IntEnum):
    """The order in which passes make sense: upgrade, raise, improve, compress, lower.

    What each is for: docs/architecture.md.
    """

    UPGRADE = 0
    RAISE = 1
    IMPROVE = 2
    COMPRESS = 3
    LOWER = 4


@dataclass(frozen=True)
class Contract:
    """exact: bit-equal. reassociates: the same mathematics in another order. lossy: a declared damage."""

    kind: str
    metric: str | None = None
    budget: float | None = None

    @classmethod
    def exact(cls) -> Contract:
        """Same arithmetic: outputs bit-equal, NaN positions included."""
        return cls("exact")

    @classmethod
    def reassociates(cls) -> Contract:
        """Same mathematics, other order: equal to a tolerance set by dtype and reduction length."""
        return cls("reassociates")

    @classmethod
    def lossy(cls, metric: str, budget: float) -> Contract:
        """Declared damage: `metric` (kl_mean, cosine_min or sqnr of `graphopt.metrics.METRICS`) stays within
        `budget`: at most so many nats, at least such a cosine or so many dB.
        """
        return cls("lossy", metric, budget)

    def __str__(self) -> str:
        return f"lossy({self.metric} {self.budget})" if self.metric else self.kind


@dataclass(frozen=True)
class OpsetRange:
    """Versions of the default opset a pass understands, both ends included; None leaves an end open."""

    first: int | None = None
    last: int | None = None

    def __contains__(self, version: int) -> bool:
        return (self.first is None or version >= self.first) and (self.last is None or version <= self.last)

    def __str__(self) -> str:
        return f"{self.first or ''}..{self.last or ''}"
