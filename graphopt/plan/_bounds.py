"""Budgets as they are written: METRIC=VALUE."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from graphopt.errors import BadInput
from graphopt.io import nearest
from graphopt.metrics import METRICS, SAID, UNITS, Metric

__all__ = ["PLANNED", "Bound", "parse_bounds"]

PLANNED = (
    "kl_mean",
    "package_bytes",
    "weight_bytes",
    "peak_memory",
    "bpw",
    "tpot",
    "decode_tokens_per_second",
)
"""The metrics that a plan can be held to: those that follow from what each weight is stored as."""
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?"
_WRITTEN = re.compile(rf"\s*(?P<metric>\w+)\s*=\s*(?P<number>{_NUMBER})\s*(?P<unit>[^\s\d]\S*)?\s*")


@dataclass(frozen=True)
class Bound:
    """`metric` (a key of `METRICS`) may be `value` at worst, in its unit; `text` is how somebody wrote it."""

    metric: str
    value: float
    text: str

    @property
    def of_time(self) -> bool:
        """Whether it is of how long a token takes."""
        return self.metric in ("tpot", "decode_tokens_per_second")

    @property
    def described(self) -> Metric:
        return METRICS[self.metric]


def parse_bounds(texts: Iterable[str], known: Collection[str] = PLANNED) -> tuple[Bound, ...]:
    """The bounds that `texts` say: "kl_mean=0.02", "package_bytes=700MB", "tpot=20ms", one a metric.

    A text may hold several, separated by commas; `known` are the metrics that may be bounded. `BadInput`,
    with the nearest name, for an unknown metric or
    unit, for a value that nothing can keep, and for a second bound of a metric.
    """
    found: dict[str, Bound] = {}
    for text in (part.strip() for whole in texts for part in whole.split(",")):
        bound = _parsed(text, known)
        if bound.metric in found:
            raise BadInput(f"budget {text!r}: there is {found[bound.metric].text!r} already")
        found[bound.metric] = bound
    return tuple(found.values())


def _parsed(text: str, planned: Collection[str]) -> Bound:
    written = _WRITTEN.fullmatch(text)
    if written is None:
        raise BadInput(
            f"budget {text!r} is not METRIC=VALUE", hint="Write kl_mean=0.02, package_bytes=700MB, tpot=20ms."
        )
    key = written["metric"]
    if key not in planned:
        what = "nothing can be planned for" if key in METRICS else "there is no metric"
        raise BadInput(f"budget {text!r}: {what} {key!r}", hint=_meant(key, planned))
    value = float(written["number"]) * _scale(METRICS[key], written["number"], written["unit"], text)
    if not 0 < value < math.inf:
        raise BadInput(f"budget {text!r}: {key} is a finite number above 0")
    return Bound(key, value, text)


def _scale(metric: Metric, number: str, unit: str | None, text: str) -> float:
    """How many of the metric's own unit one of `unit` is."""
    known = UNITS.get(metric.unit, {metric.unit: 1.0})
    if unit is None:
        if metric.unit in SAID:
            raise BadInput(
                f"budget {text!r}: {number} of what?", hint=f"Write {number}{' or '.join(list(known)[:4])}."
            )
        return 1.0
    if unit not in known:
        raise BadInput(f"budget {text!r}: {metric.key} is not in {unit!r}", hint=_meant(unit, known))
    return known[unit]


def _meant(name: str, known: Iterable[str]) -> str:
    near = nearest(name, known)
    return f"Did you mean {near!r}?" if near else f"There are {', '.join(known)}."
