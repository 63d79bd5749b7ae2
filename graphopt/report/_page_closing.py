"""The closing check on the page: its verdict as a sentence, its comparisons as rows and bars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphopt.metrics import METRICS
from graphopt.report._closing import kind_of, strain, worst
from graphopt.report._model import ClosingReport, MetricReport, Report
from graphopt.report._page_parts import Chart, Verdict, plotted, share_text
from graphopt.report._text import plural

__all__ = ["ClosingRow", "closing_chart", "closing_rows", "closing_verdict"]

_CHARTED = 14
"""Rows of the chart of the closing check: a screen's height; the table has all."""


@dataclass(frozen=True)
class ClosingRow:
    """A comparison of the closing check as text."""

    case: str
    output: str
    metric: str
    value: str
    bound: str
    share: str
    holds: bool


def closing_verdict(report: Report) -> Verdict:
    """What the closing check came to, and the comparison that says why."""
    closing = report.closing
    unproven = sum(step.verdicts["unproven"] for step in report.passes)
    doubt = f" {plural(unproven, 'edit')} could not be checked." if unproven else ""
    if closing.verdict == "not run":
        why = closing.reason or "the closing check was left out"
        return Verdict(
            "unsure", "Not compared", f"Nothing says that it behaves like its source: {why}.{doubt}"
        )
    if closing.verdict == "inconclusive":
        return Verdict(
            "unsure", "Inconclusive", f"{closing.reason or 'The closing check decides nothing'}.{doubt}"
        )
    nearest = max(closing.metrics, key=strain, default=None)
    if closing.verdict == "failed":
        why = closing.reason or (_told(nearest) if nearest else "the closing check failed")
        return Verdict(
            "bad", "Failed", f"It differs from its source by more than {report.recipe} allows: {why}."
        )
    if nearest is None:
        return Verdict("good", "Passed", f"The closing check passed.{doubt}")
    held = "lossless bounds" if report.lossless else f"the budget of {report.recipe}"
    sentence = (
        f"It keeps {held} in all {plural(len(closing.metrics), 'comparison')} with {closing.reference}: "
    )
    return Verdict("good", "Passed", f"{sentence}the nearest to its bound is {_told(nearest)}.{doubt}")


def _told(one: MetricReport) -> str:
    metric = METRICS[one.metric]
    unit = f" {metric.unit}" if metric.unit else ""
    relation = "at least" if metric.better == "larger" else "at most"
    return (
        f"{metric.label} of {one.output} in “{one.case}”, {metric.text(one.value)}{unit} "
        f"where {relation} {metric.text(one.bound)} is allowed"
    )


def closing_rows(closing: ClosingReport) -> Sequence[ClosingRow]:
    """Every comparison, the nearest to its bound first."""
    return [_row(one) for one in sorted(closing.metrics, key=strain, reverse=True)]


def _row(one: MetricReport) -> ClosingRow:
    metric = METRICS[one.metric]
    unit = f" {metric.unit}" if metric.unit else ""
    return ClosingRow(
        case=one.case,
        output=one.output,
        metric=metric.label,
        value=f"{metric.text(one.value)}{unit}",
        bound=f"{'≥' if metric.better == 'larger' else '≤'} {metric.text(one.bound)}{unit}",
        share=share_text(strain(one)),
        holds=one.holds,
    )


def closing_chart(closing: ClosingReport, key: str) -> Chart | None:
    """How much of its bound each comparison uses; None where there is none."""
    if not closing.metrics:
        return None
    rows = sorted(worst(closing.metrics, by_case=True), key=strain, reverse=True)[:_CHARTED]
    several = len({kind_of(one.output) for one in rows}) > 1
    data = [
        {
            "name": " · ".join(
                [one.case, METRICS[one.metric].label, *([kind_of(one.output)] if several else [])]
            ),
            "share": plotted(100 * strain(one)),
            "text": share_text(strain(one)),
            "holds": one.holds,
            "tip": f"{METRICS[one.metric].text(one.value)} of {METRICS[one.metric].text(one.bound)}",
        }
        for one in rows
    ]
    broken = sum(not one.holds for one in closing.metrics)
    text = (
        f"Bars of how much of its bound each comparison uses. {broken or 'None'} of {len(closing.metrics)} "
    )
    return Chart(
        f"{key}-closing", "shares", "Share of the bound that is used", f"{text}is over it.", {"rows": data}
    )
