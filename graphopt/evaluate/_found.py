"""Values by document, as a measurement finds them one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from graphopt.evaluate._corpus import Window
from graphopt.metrics import Documents, Statistic

__all__ = ["Found", "scope_of", "share_of"]

Floats = NDArray[np.float64]
T = TypeVar("T")


@dataclass
class Found:
    """Values of both sides, or of one, by what they are of."""

    documents: list[Window] = field(default_factory=list)
    values: list[list[Floats]] = field(default_factory=list)

    def add(self, window: Window, values: Sequence[Floats]) -> None:
        self.documents.append(window)
        self.values.append(list(values))

    def of(self, domain: str | None, statistic: Statistic) -> Documents | None:
        """By document, those of `domain` alone if one is given; None where there are none."""
        groups: dict[str, list[list[Floats]]] = {}
        for window, values in zip(self.documents, self.values, strict=True):
            if domain is None or window.domain == domain:
                groups.setdefault(window.document, []).append(values)
        if not groups:
            return None
        joined = [[np.concatenate(parts) for parts in zip(*group, strict=True)] for group in groups.values()]
        own, *baseline = map(tuple, zip(*joined, strict=True))
        return Documents(own, baseline[0] if baseline else None, statistic, tuple(groups))

    def lowest(self, domain: str | None) -> list[float]:
        """The lowest value of each side, in `domain` alone if one is given; empty where there are none."""
        chosen = [
            values
            for window, values in zip(self.documents, self.values, strict=True)
            if domain is None or window.domain == domain
        ]
        return [min(float(value.min()) for value in side) for side in zip(*chosen, strict=True)]


def scope_of(output: str, domain: str | None) -> str:
    """What to call a part of what was measured; empty for all of it."""
    of_domain = [] if domain is None else [f"domain {domain or 'none'}"]
    return ", ".join([output] * bool(output) + of_domain)


def share_of(items: Sequence[T], part: tuple[int, int]) -> Sequence[T]:
    """The share i, from 0, of n that `part` (i, n) says: all of them, one after the other, are `items`."""
    number, count = part
    return items[number * len(items) // count : (number + 1) * len(items) // count]
