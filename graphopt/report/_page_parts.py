"""What the page is made of: verdicts, facts and charts, as its template and its script take them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["Chart", "Fact", "Tone", "Verdict", "plotted", "scaled_bytes", "share_text"]

Tone = Literal["good", "bad", "unsure", "plain"]
_SCALES = (("GB", 10**9), ("MB", 10**6), ("kB", 10**3), ("B", 1))


@dataclass(frozen=True)
class Verdict:
    """A word, and one sentence why."""

    tone: Tone
    word: str
    sentence: str


@dataclass(frozen=True)
class Fact:
    """A number that stands out: what it is, the number, and what it is compared with."""

    label: str
    value: str
    note: str = ""
    tone: Tone = "plain"


@dataclass(frozen=True)
class Chart:
    """A chart by its `kind`, which is a function of page.js, and `data` for it. `text` says what it shows to
    those who do not see it; the numbers themselves are in a table beside it."""

    id: str
    kind: str
    title: str
    text: str
    data: Mapping[str, Any]


def plotted(value: float) -> float | None:
    """`value`, or None where no chart has a place for it and JSON no word."""
    return value if math.isfinite(value) else None


def scaled_bytes(sizes: Sequence[int]) -> tuple[str, list[float]]:
    """The unit that suits the largest of `sizes`, and all of them in it."""
    unit, scale = next(((u, s) for u, s in _SCALES if max(sizes, default=0) >= s), _SCALES[-1])
    return unit, [size / scale for size in sizes]


def share_text(share: float) -> str:
    """A share of 1 as percent: `3 %`, `0.04 %`."""
    if not math.isfinite(share):
        return "∞"
    return f"{100 * share:.0f} %" if share >= 0.095 or share == 0 else f"{100 * share:.1g} %"
