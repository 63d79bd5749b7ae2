"""One run of `optimize` on the page: what it came to, what each pass did, and how to run it again."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from graphopt.metrics import METRICS
from graphopt.report._closing import strain
from graphopt.report._model import Report
from graphopt.report._page_closing import ClosingRow, closing_chart, closing_rows, closing_verdict
from graphopt.report._page_damage import Damage, damage_of
from graphopt.report._page_graph import GraphPanel, graph_panels
from graphopt.report._page_parts import Chart, Fact, Verdict, share_text
from graphopt.report._page_passes import PassRow, by_role, pass_row, totals, waterfalls
from graphopt.report._page_plan import PlanPanel, plans_of
from graphopt.report._page_prediction import PredictionPanel, prediction_panel
from graphopt.report._text import bytes_text, seconds_text

__all__ = ["Run", "run_view"]


@dataclass(frozen=True)
class Run:
    """A `Report` as the page shows it. `key` begins the ids of its elements."""

    key: str
    name: str
    report: Report
    verdict: Verdict
    facts: Sequence[Fact]
    closing: Sequence[ClosingRow]
    closing_chart: Chart | None
    passes: Sequence[PassRow]
    idle: Sequence[str]
    weighed: bool
    waterfalls: Sequence[Chart]
    sizes: Sequence[tuple[str, str]]
    graphs: Sequence[GraphPanel]
    damage: Sequence[Damage]
    plans: Sequence[PlanPanel]
    prediction: PredictionPanel | None
    environment: Mapping[str, str]
    command: str

    @property
    def charts(self) -> Iterator[Chart]:
        """Every chart of it."""
        if self.closing_chart:
            yield self.closing_chart
        yield from self.waterfalls
        for panel in self.graphs:
            yield from panel.charts
        yield from (one.chart for one in self.plans)
        yield from (one.chart for one in self.damage)


def run_view(report: Report, key: str, name: str) -> Run:
    """`report` as the page shows it."""
    worked = [step for step in report.passes if step.modified or step.skipped]
    return Run(
        key=key,
        name=name,
        report=report,
        verdict=closing_verdict(report),
        facts=list(_facts(report)),
        closing=closing_rows(report.closing),
        closing_chart=closing_chart(report.closing, key),
        passes=[pass_row(step) for step in worked],
        idle=[step.title for step in report.passes if not step.modified and not step.skipped],
        weighed=any(step.reads_after for step in report.passes),
        waterfalls=list(waterfalls(report, key)),
        sizes=_sizes(report),
        graphs=list(graph_panels(report, key)),
        damage=list(damage_of(report, key)),
        plans=list(plans_of(report, key)),
        prediction=prediction_panel(report),
        environment=_environment(report),
        command=shlex.join(
            [
                "graphopt",
                "optimize",
                report.source,
                "-o",
                report.out,
                "--locked",
                f"{report.out}/graphopt.lock",
            ]
        ),
    )


def _facts(report: Report) -> Iterator[Fact]:
    sizes = report.sizes
    before, after = sizes.source_weight_bytes, sizes.package_weight_bytes
    smaller = f"{before / after:.2g}x smaller, " if 0 < after < before / 1.05 else ""
    yield Fact("Weights", bytes_text(after), f"{smaller}{bytes_text(before)} in the source")
    nodes = [totals(steps, "nodes") for steps in by_role(report).values()]
    if nodes:
        yield Fact("Nodes", f"{sum(n[1] for n in nodes):,}", f"{sum(n[0] for n in nodes):,} before")
    if nearest := max(report.closing.metrics, key=strain, default=None):
        yield Fact(
            "Nearest to its bound",
            share_text(strain(nearest)),
            f"of what {METRICS[nearest.metric].label} may be",
            "good" if nearest.holds else "bad",
        )
    found: Counter[str] = sum((step.verdicts for step in report.passes), Counter())
    if total := sum(step.applied for step in report.passes):
        said = ", ".join(f"{count:,} {verdict}" for verdict, count in found.most_common())
        yield Fact("Edits", f"{total:,}", said or "none of them checked")


def _sizes(report: Report) -> list[tuple[str, str]]:
    sizes = report.sizes
    return [
        ("weights as the source stores them", bytes_text(sizes.source_weight_bytes)),
        ("weights as the package stores them", bytes_text(sizes.package_weight_bytes)),
        ("all files of the package", bytes_text(sizes.package_bytes)),
    ]


def _environment(report: Report) -> dict[str, str]:
    phases = ", ".join(f"{name} {seconds_text(s)}" for name, s in report.seconds.items())
    found = {
        "graphopt": report.graphopt,
        "source": report.source,
        "task": report.task,
        "family": report.family or "",
        "target": report.target,
        "recipe": report.recipe,
        "edits are checked": report.verify,
        "time of the run": f"{seconds_text(sum(report.seconds.values()))} ({phases})" if phases else "",
        "memory of the run": f"{bytes_text(report.peak_memory)} at its peak" if report.peak_memory else "",
    }
    return {name: text for name, text in found.items() if text} | report.machine | report.versions
