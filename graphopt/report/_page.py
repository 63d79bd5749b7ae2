"""report.html: one file for the person who decides, made of `Report`s and of a `GateReport`."""

from __future__ import annotations

import functools
import importlib.metadata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from graphopt.report._gate import GateReport
from graphopt.report._model import Report
from graphopt.report._page_compare import ComparisonView, comparison_view
from graphopt.report._page_gate import GateView, gate_view
from graphopt.report._page_parts import Chart, Fact, Verdict
from graphopt.report._page_run import Run, run_view

__all__ = ["write_page"]

_FOLDER = Path(__file__).parent / "page"


@dataclass(frozen=True)
class _Page:
    """All that the template shows."""

    title: str
    verdict: Verdict
    facts: Sequence[Fact]
    runs: Sequence[Run] = ()
    comparison: ComparisonView | None = None
    gate: GateView | None = None
    version: str = field(default_factory=lambda: importlib.metadata.version("graphopt"))

    @property
    def sections(self) -> Iterator[tuple[str, str]]:
        """Links to the parts of the page: id and label."""
        yield "verdict", "Verdict"
        if self.gate:
            yield from _gate_sections(self.gate)
        if len(self.runs) == 1:
            yield from _run_sections(self.runs[0])
        elif self.comparison:
            yield "compare", "Side by side"
            yield "steps", "Passes"
            yield from ((run.key, run.name) for run in self.runs)

    @property
    def data(self) -> dict[str, Mapping[str, Any]]:
        """What page.js draws, by the chart's id."""
        charts: list[Chart] = [chart for run in self.runs for chart in run.charts]
        charts += self.gate.charts if self.gate else ()
        charts += self.comparison.charts if self.comparison else ()
        return {chart.id: {"kind": chart.kind, "data": chart.data} for chart in charts}

    @property
    def graphs(self) -> dict[str, Mapping[str, Any]]:
        """What graph.js lays out, by the panel's id."""
        return {panel.id: panel.drawn for run in self.runs for panel in run.graphs}


def _run_sections(run: Run) -> Iterator[tuple[str, str]]:
    if run.closing:
        yield f"{run.key}-accuracy", "Accuracy"
    if run.plans:
        yield f"{run.key}-plan", "Plan"
    if run.passes:
        yield f"{run.key}-passes", "Passes"
    if run.prediction:
        yield f"{run.key}-roofline", "Roofline"
    if run.report.coverage:
        yield f"{run.key}-coverage", "Coverage"
    if run.graphs:
        yield run.graphs[0].id, "Graph"
    if run.damage:
        yield f"{run.key}-damage", "Damage"
    yield f"{run.key}-again", "Environment"


def _gate_sections(gate: GateView) -> Iterator[tuple[str, str]]:
    yield "gates", "Gates"
    if gate.generations:
        yield "generations", "Texts"
    yield "gate-again", "Measurement"


def write_page(
    path: Path,
    *,
    title: str,
    reports: Sequence[Report] = (),
    gate: GateReport | None = None,
    results: Sequence[GateReport | None] = (),
) -> None:
    """Write a page of its own, with `title` and everything it needs in one file, to `path`.

    One report is shown whole; several are shown side by side first, with what gates measured of each in
    `results`. The same arguments give the same bytes. `ValueError` where there is no report and no gate.
    """
    if not reports and gate is None:
        raise ValueError("a page is about a report or a gate")
    runs = [run_view(report, f"run-{number}", report.out) for number, report in enumerate(reports, 1)]
    view = gate_view(gate) if gate else None
    compared = comparison_view(reports, results) if len(reports) > 1 else None
    first = view or compared or runs[0]
    page = _Page(title, first.verdict, first.facts, runs, compared, view)
    path.write_text(_rendered(page), encoding="utf-8")


def _rendered(page: _Page) -> str:
    text = (
        _environment()
        .get_template("report.html.jinja")
        .render(
            page=page,
            css=_asset("page.css"),
            charts_js=_asset("charts.js"),
            page_js=_asset("page.js"),
            graph_js=_asset("graph.js"),
        )
    )
    return text + "\n"


@functools.cache
def _environment() -> Environment:
    return Environment(loader=FileSystemLoader(_FOLDER), autoescape=True, undefined=StrictUndefined)


def _asset(name: str) -> Markup:
    """A file of our own, which is no text of a model's and is put in as it is."""
    return Markup((_FOLDER / name).read_text(encoding="utf-8"))
