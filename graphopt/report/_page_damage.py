"""Damage on the page: what each edit that gives up accuracy costs, by the layer it is in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from graphopt.metrics import METRICS, Metric
from graphopt.report._model import EditReport, PassReport, Report
from graphopt.report._page_parts import Chart, plotted
from graphopt.report._text import plural

__all__ = ["Damage", "damage_of"]

_ELSEWHERE = "other"
"""Where an edit is that belongs to no layer, or to none that is known."""


@dataclass(frozen=True)
class Damage:
    """What one step costs. `rows` have the worst edit of each layer: layer, edits, value, what it was."""

    title: str
    bound: str
    chart: Chart
    rows: Sequence[tuple[str, int, str, str]]


def damage_of(report: Report, key: str) -> Iterator[Damage]:
    """For each step that gives up accuracy, the damage of its edits, where that was measured."""
    for number, step in enumerate(report.passes):
        measured = [
            e for e in step.edits if e.outcome == "applied" and e.verdict == "within budget" and e.bound
        ]
        if measured:
            yield _damage(step, measured, _places(report, step.role), f"{key}-damage-{number}")


def _places(report: Report, role: str) -> dict[str, tuple[str, str]]:
    """Layer and part that each edit (STEP:NUMBER) is in, where the report has a view of the graph."""
    found: dict[str, tuple[str, str]] = {}
    if role in report.views:
        for group in report.views[role].after.groups:
            for edit in group.edits:
                found.setdefault(edit, (_ELSEWHERE if group.layer is None else str(group.layer), group.title))
    return found


def _damage(
    step: PassReport, edits: Sequence[EditReport], places: dict[str, tuple[str, str]], key: str
) -> Damage:
    metric = METRICS.get(step.contract.removeprefix("lossy(").partition(" ")[0])
    label, unit = (metric.label, metric.unit) if metric else ("difference", "")
    placed = [(*places.get(f"{step.step}:{e.number}", (_ELSEWHERE, "")), e) for e in edits]
    layers = sorted(
        {layer for layer, _, _ in placed}, key=lambda layer: (layer == _ELSEWHERE, layer.zfill(9))
    )
    points = [
        {"layer": layer, "value": plotted(e.value), "tip": f"{part or e.identity}: {e.summary}"}
        for layer, part, e in placed
    ]
    rows = []
    for layer in layers:
        own = [(part, e) for where, part, e in placed if where == layer]
        part, least = _worst(own, metric)
        rows.append(
            (
                layer,
                len(own),
                f"{least.value:.3g} {unit}".rstrip(),
                f"{part or least.identity}: {least.summary}",
            )
        )
    _, worst = _worst([(part, e) for _, part, e in placed], metric)
    text = f"The {label} of {plural(len(edits), 'edit')} by layer; the worst is {worst.value:.3g} {unit}."
    data = {"rows": points, "layers": layers, "bound": edits[0].bound, "label": label, "unit": unit}
    chart = Chart(key, "damage", f"{step.title}: {label} by layer", text, data)
    return Damage(step.title, f"{edits[0].bound:.3g} {unit}".rstrip(), chart, rows)


def _worst(edits: Sequence[tuple[str, EditReport]], metric: Metric | None) -> tuple[str, EditReport]:
    larger = metric is not None and metric.better == "larger"
    return (min if larger else max)(edits, key=lambda pair: pair[1].value)
