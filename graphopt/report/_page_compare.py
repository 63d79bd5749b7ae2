"""Several packages on the page: one sentence, a table, and a chart of each quantity that is a number."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from graphopt.report._compare import ComparedRow, Comparison, compare_reports
from graphopt.report._gate import GateReport
from graphopt.report._model import Report
from graphopt.report._page_parts import Chart, Fact, Tone, Verdict, plotted, scaled_bytes
from graphopt.report._text import plural

__all__ = ["ComparisonView", "comparison_view"]

_BYTES = ("weight_bytes", "package_bytes")


@dataclass(frozen=True)
class ComparisonView:
    """A `Comparison` as the page shows it."""

    comparison: Comparison
    verdict: Verdict
    facts: Sequence[Fact]
    charts: Sequence[Chart]


def comparison_view(reports: Sequence[Report], results: Sequence[GateReport | None]) -> ComparisonView:
    """`reports` side by side as the page shows them."""
    comparison = compare_reports(reports, results)
    return ComparisonView(
        comparison, _verdict(reports, comparison), list(_facts(comparison)), list(_charts(comparison))
    )


def _verdict(reports: Sequence[Report], comparison: Comparison) -> Verdict:
    not_passed = [report for report in reports if report.closing.verdict != "passed"]
    held = f"All {len(reports)} keep what their recipes promise."
    if not_passed:
        said = ", ".join(f"{report.out}: {report.closing.verdict}" for report in not_passed)
        held = f"{len(not_passed)} of {len(reports)} did not pass the closing check ({said})."
    sources = {report.source for report in reports}
    of = "" if len(sources) == 1 else f" They are of {len(sources)} different sources."
    best = [
        f" {words}: {comparison.names[row.best]}, {row.cells[row.best]}."
        for key, words in (("weight_bytes", "Smallest weights"), ("share", "Furthest from a bound"))
        if (row := comparison.row(key)) is not None and row.best is not None
    ]
    failed = any(report.closing.verdict == "failed" for report in reports)
    tone: Tone = "bad" if failed else "unsure" if not_passed else "plain"
    return Verdict(tone, f"{plural(len(reports), 'package')} side by side", held + "".join(best) + of)


def _facts(comparison: Comparison) -> Iterator[Fact]:
    for key, label in (
        ("weight_bytes", "Smallest weights"),
        ("nodes", "Fewest nodes"),
        ("share", "Furthest from a bound"),
    ):
        row = comparison.row(key)
        if row is not None and row.best is not None:
            yield Fact(label, row.cells[row.best], comparison.names[row.best])


def _charts(comparison: Comparison) -> Iterator[Chart]:
    for at, row in enumerate(comparison.rows):
        known = [value for value in row.values if value is not None and math.isfinite(value)]
        if len(known) > 1 and max(known) > 0:
            yield _chart(comparison, row, f"compare-{at}")


def _chart(comparison: Comparison, row: ComparedRow, key: str) -> Chart:
    none = (None,) * len(row.values)
    values, lows, highs = row.values, row.low or none, row.high or none
    unit = ""
    if row.key in _BYTES:
        unit, scaled = scaled_bytes([int(value or 0) for value in values])
        values = tuple(scaled)
    bars = [
        {"name": name, "value": _finite(value), "low": _finite(low), "high": _finite(high), "text": cell}
        for name, value, low, high, cell in zip(comparison.names, values, lows, highs, row.cells, strict=True)
    ]
    text = "; ".join(
        f"{name}: {cell or 'not known'}" for name, cell in zip(comparison.names, row.cells, strict=True)
    )
    return Chart(
        key,
        "bars",
        row.label[:1].upper() + row.label[1:],
        text,
        {"rows": bars, "unit": unit, "best": row.best},
    )


def _finite(value: float | None) -> float | None:
    return None if value is None else plotted(value)
