"""The roofline on the page: each class of operators of a step beside what bounds it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from graphopt.machine import Interval
from graphopt.metrics import METRICS
from graphopt.report._model import Report
from graphopt.report._page_parts import share_text
from graphopt.report._prediction import BoundReport, PredictionReport
from graphopt.report._quantity import quantity_text, unit_of
from graphopt.report._text import bytes_text, number

__all__ = ["PredictionPanel", "prediction_panel"]

_BOUNDS = {"memory": "reading memory", "compute": "computing"}
_SMALL = 0.002
"""Share of a step below which a class of operators is left to report.json."""


@dataclass(frozen=True)
class BoundRow:
    """A class of operators as text."""

    operators: str
    seconds: str
    share: str
    reads: str
    computes: str
    by: str
    reached: str


@dataclass(frozen=True)
class PredictionPanel:
    """A prediction as text. `metrics` are label, value and interval; `tables` a title and rows each."""

    lead: str
    metrics: Sequence[tuple[str, str, str]]
    tables: Sequence[tuple[str, Sequence[BoundRow]]]
    history: Sequence[str]
    remarks: Sequence[str]


def prediction_panel(report: Report) -> PredictionPanel | None:
    """That of a report that has a prediction."""
    found = report.prediction
    if found is None:
        return None
    threads = f"{found.threads} thread" + "s" * (found.threads > 1)
    return PredictionPanel(
        lead=f"A prompt of {found.prompt} tokens and {found.new} written ones on {threads}, from the profile "
        f"of this machine ({found.profile}). Nine of ten measurements are expected within the interval.",
        metrics=[
            (METRICS[key].label, quantity_text(key, one.value), _interval(key, one))
            for key, one in found.metrics.items()
            if key in METRICS
        ],
        tables=[
            (title, rows)
            for title, parts in (("A token", found.step), ("The prompt", found.reading))
            if (rows := list(_rows(parts)))
        ],
        history=list(_history(found)),
        remarks=[
            *found.widened,
            *(f"nothing is known of what {name} costs: there are no times" for name in found.unknown),
        ],
    )


def _interval(key: str, one: Interval) -> str:
    unit, factor = unit_of(key, [one.low, one.high])
    return f"{number(one.low * factor)} to {number(one.high * factor)} {unit}"


def _rows(parts: Sequence[BoundReport]) -> Iterator[BoundRow]:
    whole = sum(part.seconds.value for part in parts)
    for part in parts:
        share = part.seconds.value / whole if whole else 0.0
        if share < _SMALL:
            continue
        unit, factor = unit_of("flops_per_token", [part.flops])
        yield BoundRow(
            operators=part.operators,
            seconds=quantity_text("tpot", part.seconds.value),
            share=share_text(share),
            reads=bytes_text(round(part.bytes)) if part.bytes else "",
            computes=f"{number(part.flops * factor)} {unit}" if part.flops else "",
            by=_BOUNDS.get(part.by, part.by),
            reached=share_text(part.floor / part.seconds.value) if part.seconds.value else "",
        )


def _history(found: PredictionReport) -> Iterator[str]:
    for one in found.history:
        label = METRICS[one.metric].label if one.metric in METRICS else one.metric
        yield (
            f"{label}: {100 * one.median_error:.1f} % off in the median of {one.count}, "
            f"{100 * one.coverage:.0f} % within their interval"
        )
