"""Packages side by side: what their reports and results of gates have in common, as rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from graphopt.metrics import METRICS
from graphopt.report._closing import kind_of, strain, worst
from graphopt.report._gate import GateReport
from graphopt.report._model import MetricReport, PassReport, Report
from graphopt.report._quantity import quantity_text
from graphopt.report._text import bytes_text, seconds_text

__all__ = ["ComparedRow", "ComparedStep", "Comparison", "compare_reports"]


@dataclass(frozen=True)
class ComparedRow:
    """One quantity of all packages: `cells` as text, `values` as numbers where it is one (None: not known).

    `better` is which way is an improvement; empty where neither is. `low` and `high` are ends of intervals.
    """

    key: str
    label: str
    cells: tuple[str, ...]
    values: tuple[float | None, ...] = ()
    better: Literal["smaller", "larger", ""] = ""
    low: tuple[float | None, ...] = ()
    high: tuple[float | None, ...] = ()

    @property
    def best(self) -> int | None:
        """Which package is better than all others, if one is."""
        known = [value for value in self.values if value is not None]
        if not self.better or len(known) < 2:
            return None
        top = min(known) if self.better == "smaller" else max(known)
        return self.values.index(top) if known.count(top) == 1 else None


@dataclass(frozen=True)
class ComparedStep:
    """A step, and what it did in each package: empty where the recipe does not have it."""

    title: str
    cells: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """`names` of packages, `rows` of quantities, `steps` of recipes, each with a cell for every package."""

    names: tuple[str, ...]
    rows: tuple[ComparedRow, ...]
    steps: tuple[ComparedStep, ...]

    def row(self, key: str) -> ComparedRow | None:
        """The row of this `key`, if there is one."""
        return next((row for row in self.rows if row.key == key), None)


def compare_reports(reports: Sequence[Report], results: Sequence[GateReport | None] = ()) -> Comparison:
    """`reports` side by side, and beside each what a gate measured of it, where that is known."""
    rows = [*_facts(reports), *_closing(reports), *_cost(reports), *_gates(results or [None] * len(reports))]
    names = tuple(report.out for report in reports)
    return Comparison(names, tuple(rows), tuple(_steps(reports)))


def _facts(reports: Sequence[Report]) -> Iterator[ComparedRow]:
    def told(key: str, label: str, say: Callable[[Report], str]) -> ComparedRow:
        return ComparedRow(key, label, tuple(map(say, reports)))

    yield told("verdict", "closing check", lambda report: report.closing.verdict)
    if len({report.source for report in reports}) > 1:
        yield told("source", "source", lambda report: report.source)
    yield told("recipe", "recipe", lambda report: report.recipe)
    if len({report.target for report in reports}) > 1:
        yield told("target", "target", lambda report: report.target)
    for key, label, sizes in (
        ("weight_bytes", "weights", [report.sizes.package_weight_bytes for report in reports]),
        ("package_bytes", "all files", [report.sizes.package_bytes for report in reports]),
    ):
        yield _numbers(key, label, sizes, bytes_text)
    yield _numbers("nodes", "nodes", [_nodes(report) for report in reports], lambda count: f"{count:,}")


def _numbers(key: str, label: str, values: Sequence[int | None], say: Callable[[int], str]) -> ComparedRow:
    cells = tuple("" if value is None else say(value) for value in values)
    return ComparedRow(key, label, cells, tuple(values), "smaller")


def _nodes(report: Report) -> int | None:
    last = {step.role: step.nodes_after for step in report.passes}
    return sum(last.values()) if last else None


def _closing(reports: Sequence[Report]) -> Iterator[ComparedRow]:
    found = [{(kind_of(m.output), m.metric): m for m in worst(report.closing.metrics)} for report in reports]
    several = len({output for one in found for output, _ in one}) > 1
    for output, key in dict.fromkeys(name for one in found for name in one):
        metric = METRICS[key]
        ours = [one.get((output, key)) for one in found]
        yield ComparedRow(
            key=f"closing:{output}:{key}",
            label=f"{metric.label}{f' of {output}' if several else ''}, worst"
            + (f" ({metric.unit})" if metric.unit else ""),
            cells=tuple(_of_bound(m) for m in ours),
            values=tuple(None if m is None else m.value for m in ours),
            better=metric.better,
        )
    nearest = [max(map(strain, report.closing.metrics), default=None) for report in reports]
    cells = tuple("" if share is None else f"{100 * share:.2g} %" for share in nearest)
    yield ComparedRow("share", "largest share of a bound", cells, tuple(nearest), "smaller")


def _of_bound(one: MetricReport | None) -> str:
    if one is None:
        return ""
    metric = METRICS[one.metric]
    return f"{metric.text(one.value)} of {metric.text(one.bound)}" if one.bound else metric.text(one.value)


def _cost(reports: Sequence[Report]) -> Iterator[ComparedRow]:
    edits = [sum(step.applied for step in report.passes) for report in reports]
    yield ComparedRow("edits", "edits", tuple(f"{count:,}" for count in edits))
    took = [sum(report.seconds.values()) for report in reports]
    yield ComparedRow("seconds", "time to make it", tuple(map(seconds_text, took)))
    kept = tuple("; ".join(report.assumptions.values()) for report in reports)
    if any(kept):
        yield ComparedRow("assumptions", "assumes", kept)


def _gates(results: Sequence[GateReport | None]) -> Iterator[ComparedRow]:
    """Each package's own value of what gates measured; a relative gate has no interval of that."""
    found = [
        {} if result is None else {(o.metric, o.scope): o for o in result.outcomes} for result in results
    ]
    for name, scope in dict.fromkeys(key for one in found for key in one):
        metric = METRICS[name]
        ours = [one.get((name, scope)) for one in found]
        plain = [None if one is None or one.relative else one for one in ours]
        unit = f" ({metric.unit})" if " " in metric.unit else ""
        yield ComparedRow(
            key=f"gate:{name}:{scope}",
            label=f"{metric.label}{f' ({scope})' if scope else ''}, gated{unit}",
            cells=tuple(
                "" if o is None else f"{quantity_text(name, o.own, short=True)}, {o.verdict}" for o in ours
            ),
            values=tuple(None if o is None else o.own for o in ours),
            better=metric.better,
            low=tuple(None if o is None else o.low for o in plain),
            high=tuple(None if o is None else o.high for o in plain),
        )


def _steps(reports: Sequence[Report]) -> Iterator[ComparedStep]:
    found = [{step.title: step for step in report.passes} for report in reports]
    for title in dict.fromkeys(title for one in found for title in one):
        ours = [one.get(title) for one in found]
        if any(step is not None and step.modified for step in ours):
            yield ComparedStep(title, tuple(map(_did, ours)))


def _did(step: PassReport | None) -> str:
    if step is None:
        return ""
    if step.skipped:
        return f"did not run: {step.skipped}"
    nodes, size = step.nodes_after - step.nodes_before, step.bytes_after - step.bytes_before
    said = [f"{nodes:+,} nodes"] if nodes else []
    if abs(size) > 0.001 * step.bytes_before:
        said.append(f"{'+' if size > 0 else '-'}{bytes_text(abs(size))}")
    return ", ".join(said) or (f"{step.applied:,} edits" if step.modified else "nothing to do")
