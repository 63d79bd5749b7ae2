"""A plan in words and rows, for the terminal and for the page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from graphopt.metrics import METRICS
from graphopt.plan import Plan
from graphopt.report._text import bytes_text, plural

__all__ = ["Held", "correction", "forms_text", "held", "named", "value_text"]

_ALWAYS = ("kl_mean", "bpw")
"""What is said of every plan, bounded or not."""
_NAMES = 3
"""Of a unit's weights that are named."""


@dataclass(frozen=True)
class Held:
    """One metric of a plan: what it may be, was predicted and measured to be, and by how much that is off."""

    label: str
    bound: str
    predicted: str
    measured: str
    off: str


def held(plan: Plan) -> Iterator[Held]:
    """What is bounded, damage and bits, each as predicted and as measured."""
    for key in dict.fromkeys((*plan.bounds, *_ALWAYS)):
        predicted, measured = plan.predicted.get(key), plan.measured.get(key)
        off = ""
        if predicted and measured is not None:
            off = f"{100 * (measured / predicted - 1):+.1f} %"
        yield Held(
            METRICS[key].label,
            value_text(key, plan.bounds.get(key)),
            value_text(key, predicted),
            value_text(key, measured),
            off,
        )


def correction(plan: Plan) -> str:
    """How the plan came about where it is the second; empty where it is the first."""
    if plan.before is None:
        return ""
    found = [
        f"{METRICS[key].label} {value_text(key, value)} where {value_text(key, plan.before.predicted[key])} "
        "was predicted"
        for key, value in plan.before.measured.items()
        if key in plan.before.predicted
    ]
    return f"planned twice: the package of the first plan had {', '.join(found)}"


def value_text(key: str, value: float | None) -> str:
    """`value` of a metric, with its unit where that is not said by its name."""
    if value is None:
        return ""
    metric = METRICS[key]
    if metric.unit == "bytes":
        return bytes_text(round(value))
    return f"{metric.text(value)} s" if metric.unit == "s" else metric.text(value)


def forms_text(forms: Mapping[str, int]) -> str:
    """How many weights have each form."""
    return ", ".join(f"{count} of {form}" for form, count in Counter(forms).most_common())


def named(names: tuple[str, ...]) -> str:
    """The first few of a unit's weights."""
    more = f" and {plural(len(names) - _NAMES, 'more')}" if len(names) > _NAMES else ""
    return ", ".join(names[:_NAMES]) + more
