"""A gate: a metric, and the bound that it has to keep."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from graphopt.errors import BadInput
from graphopt.io import nearest
from graphopt.metrics import METRICS, SAID, UNITS, Metric

__all__ = [
    "OPERATORS",
    "Gate",
    "Operator",
    "contradictions",
    "parse_bound",
    "parse_gate",
    "seconds",
]

Operator = Literal["<=", ">=", "<", ">", "=="]
OPERATORS: tuple[Operator, ...] = get_args(Operator)
RELATIVE = "x"
"""The unit of a bound that is a multiple of the baseline's value: 1.05x."""
_TIMES = UNITS["s"]
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?"
_WRITTEN = re.compile(rf"\s*(?P<operator>[<>=!]+)\s*(?P<number>{_NUMBER})\s*(?P<unit>[^\s\d][^\s]*)?\s*")
_FUNCTIONS = {"<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt, "==": operator.eq}


@dataclass(frozen=True)
class Gate:
    """`metric` (a key of `graphopt.metrics.METRICS`) `operator` `bound`.

    `bound` is in the metric's unit or, where `relative`, in multiples of the baseline's value. `text` is the
    gate as somebody wrote it, and `where` the file and line, "command line" or "recipe".
    """

    metric: str
    operator: Operator
    bound: float
    relative: bool
    text: str
    where: str

    @property
    def described(self) -> Metric:
        return METRICS[self.metric]

    def holds(self, value: float) -> bool:
        """Whether `value` keeps the bound. NaN does not."""
        return bool(_FUNCTIONS[self.operator](value, self.bound))


def parse_gate(text: str, where: str = "command line") -> Gate:
    """The gate that `text` says: "kl_mean <= 0.02", "tpot <= 1.05x", "package_bytes <= 1.2GB".

    `BadInput`, with the nearest name, for an unknown metric, operator or unit, and for a bound on the side
    where only a better package could break it.
    """
    found = re.fullmatch(r"\s*(?P<metric>[A-Za-z]\w*)\s*(?P<rest>\D.*)?", text, re.DOTALL)
    if found is None or not found["rest"]:
        raise BadInput(
            f"{where}: {text!r} is not a gate", hint="Write it as METRIC OPERATOR BOUND: kl_mean <= 0.02."
        )
    return parse_bound(found["metric"], found["rest"], where)


def parse_bound(metric: str, bound: str, where: str) -> Gate:
    """The gate that holds `metric` to `bound`, "<= 0.02". `BadInput` as for `parse_gate`."""
    if metric not in METRICS:
        raise BadInput(f"{where}: there is no metric {metric!r}", hint=_meant(metric, METRICS))
    found = _WRITTEN.fullmatch(bound)
    if found is None:
        raise BadInput(
            f"{where}: {bound!r} is not a bound of {metric}",
            hint='Write an operator and a number: "<= 0.02", "<= 1.05x".',
        )
    sign = found["operator"]
    if sign not in OPERATORS:
        raise BadInput(f"{where}: there is no operator {sign!r}", hint=f"There are {', '.join(OPERATORS)}.")
    gate = Gate(metric, sign, *_value(METRICS[metric], found, where), f"{metric} {bound.strip()}", where)
    _require_sense(gate)
    return gate


def seconds(text: str) -> float:
    """The duration that `text` says: "90", "90s", "2min". `ValueError` for anything else."""
    found = re.fullmatch(rf"\s*({_NUMBER})\s*(\S+)?\s*", text)
    if found is None or (found[2] or "s") not in _TIMES:
        raise ValueError(f"{text!r} is not a duration: write 90s or 2min")
    return float(found[1]) * _TIMES[found[2] or "s"]


def _value(metric: Metric, found: re.Match[str], where: str) -> tuple[float, bool]:
    number, unit = float(found["number"]), found["unit"]
    if not math.isfinite(number):
        raise BadInput(f"{where}: {found['number']} is too large a number")
    if unit == RELATIVE:
        return number, True
    known = UNITS.get(metric.unit, {metric.unit: 1.0})
    if unit is None and metric.unit in SAID:
        first = next(iter(known))
        raise BadInput(
            f"{where}: {metric.key} is held to {found['number']} of what?",
            hint=f"Write {found['number']}{first} (or {', '.join(list(known)[1:])}), "
            f"or {found['number']}x, so many times the baseline's.",
        )
    if unit is not None and unit not in known:
        raise BadInput(f"{where}: {metric.key} is not in {unit!r}", hint=_meant(unit, [*known, RELATIVE]))
    return number * (known[unit] if unit else 1.0), False


def _meant(name: str, known: Iterable[str]) -> str:
    near = nearest(name, known)
    return f"Did you mean {near!r}?" if near else f"There are {', '.join(sorted(known))}."


def _require_sense(gate: Gate) -> None:
    """Raise `BadInput` for a bound that only a better package could break, and one that nothing can keep."""
    metric, above = gate.described, gate.operator in ("<=", "<")
    if gate.operator != "==" and above != (metric.better == "smaller"):
        right = ">=" if metric.better == "larger" else "<="
        raise BadInput(
            f"{gate.where}: {gate.text} would refuse a better package: {metric.better} is better",
            hint=f"Did you mean {right!r}?",
        )
    if gate.relative and gate.bound <= 0:
        raise BadInput(f"{gate.where}: {gate.text}: a multiple of the baseline's value is more than 0")


def contradictions(gates: Sequence[Gate]) -> list[tuple[Gate, Gate]]:
    """Pairs of `gates` that no value can keep together."""
    return [
        (a, b)
        for at, a in enumerate(gates)
        for b in gates[at + 1 :]
        if (a.metric, a.relative) == (b.metric, b.relative) and not _together(a, b)
    ]


def _together(a: Gate, b: Gate) -> bool:
    """Whether some number keeps both: one of the bounds, or one just beside it."""
    candidates = [
        x
        for g in (a, b)
        for x in (g.bound, math.nextafter(g.bound, -math.inf), math.nextafter(g.bound, math.inf))
    ]
    return any(a.holds(x) and b.holds(x) for x in candidates)
