"""What a person sees of a gate's result."""

from __future__ import annotations

import math
from collections.abc import Iterator

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from graphopt.metrics import METRICS
from graphopt.report import GateOutcome, GateReport, bytes_text, number, plural

__all__ = ["print_gate"]

_STYLES = {
    "pass": ("✓ pass", "green"),
    "fail": ("✗ fail", "bold red"),
    "inconclusive": ("? inconclusive", "bold yellow"),
}


def print_gate(report: GateReport, console: Console) -> None:
    """Print the verdict, every gate with what was measured, and why one did not pass, for 80 columns."""
    console.print()
    console.print(_headline(report))
    console.print()
    console.print(_table(report.outcomes))
    for line in _reasons(report):
        console.print(Padding(line, (0, 0, 0, 1)))
    for note in report.notes:
        console.print(Padding(Text(f"note: {note}", style="dim"), (0, 0, 0, 1)))


def _headline(report: GateReport) -> Text:
    label, style = _STYLES[report.verdict]
    said = report.provenance
    return Text.assemble(
        " ",
        (label, style),
        "  ",
        (said.package, "bold"),
        " beside ",
        (said.baseline, "bold"),
        overflow="fold",
    )


def _table(outcomes: list[GateOutcome]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 2, 0, 0))
    table.add_column(" gate", overflow="fold")
    table.add_column("measured", justify="right", no_wrap=True)
    table.add_column("interval", justify="right", style="dim", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for one in outcomes:
        label, style = _STYLES[one.verdict]
        scope = f" ({one.scope})" if one.scope else ""
        interval = "exact" if one.exact else f"{_shown(one, one.low)} to {_shown(one, one.high)}"
        if not math.isfinite(one.low) and not math.isfinite(one.high):
            interval = ""
        table.add_row(f" {one.text}{scope}", _shown(one, one.value), interval, Text(label, style))
    return table


def _shown(one: GateOutcome, value: float) -> str:
    """`value` in the unit of the gate: of what is a multiple of the baseline's, with an x."""
    metric = METRICS[one.metric]
    if math.isnan(value):
        return "-"
    if one.relative:
        return f"{value:.4g}x"
    if metric.unit == "bytes":
        return bytes_text(round(value)) if abs(value) < float("inf") else str(value)
    if metric.unit == "s" and value < 1:
        return f"{number(value * 1e3)} ms"
    return (
        f"{value:.4g} {metric.unit}".rstrip()
        if metric.unit in ("s", "tokens/s", "calls/s")
        else f"{value:.4g}"
    )


def _reasons(report: GateReport) -> Iterator[Text]:
    for one in report.outcomes:
        if one.verdict != "pass":
            label, style = _STYLES[one.verdict]
            needed = f"; to decide: {one.needed}" if one.needed else ""
            yield Text.assemble((f"{label} ", style), f"{one.text} ({one.where}): {one.reason}{needed}")
    undecided = sum(one.verdict == "inconclusive" for one in report.outcomes)
    if undecided and report.verdict == "inconclusive":
        yield Text(
            f"{plural(undecided, 'gate')} undecided: the evidence neither passes nor fails them", style="dim"
        )
