"""A graph before and after on the page: what is drawn, where bytes and time went, where nodes come from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from graphopt.report._graph_view import GraphGroup, GraphSide, GraphView
from graphopt.report._model import PassReport, Report
from graphopt.report._page_parts import Chart, scaled_bytes
from graphopt.report._text import bytes_text, number, plural

__all__ = ["GraphPanel", "PartRow", "graph_panels"]

_CHARTED = 12
"""Parts that a chart has bars for; a screen's height. All others are one bar."""
_VISIBLE = 0.005
"""Share of the largest part below which a bar is no pixel wide."""


@dataclass(frozen=True)
class PartRow:
    """A part of the model as text, before and after; empty where it is not there."""

    title: str
    nodes: tuple[str, str]
    weights: tuple[str, str]
    seconds: tuple[str, str]
    operators: tuple[str, str]
    passes: str
    fused: bool


@dataclass(frozen=True)
class GraphPanel:
    """A graph of the package. `drawn` is what page.js lays out, `charts` say where bytes and time went."""

    id: str
    title: str
    counts: tuple[str, str]
    rows: Sequence[PartRow]
    timed: bool
    charts: Sequence[Chart]
    drawn: Mapping[str, Any]


def graph_panels(report: Report, key: str) -> Iterator[GraphPanel]:
    """Of every graph of which the report has a view."""
    for role, view in report.views.items():
        edits = _summaries([step for step in report.passes if step.role == role])
        timed = any(group.seconds is not None for side in (view.before, view.after) for group in side.groups)
        of = "" if role == "model" else f" of the {role}"
        yield GraphPanel(
            id=f"{key}-{role}-graph",
            title=of,
            counts=(plural(view.before.nodes, "node"), plural(view.after.nodes, "node")),
            rows=[_row(*pair) for pair in _pairs(view)],
            timed=timed,
            charts=list(_charts(view, f"{key}-{role}", of, timed)),
            drawn={
                "before": _side(view.before, view.after, edits),
                "after": _side(view.after, view.before, edits),
            },
        )


def _summaries(steps: Sequence[PassReport]) -> dict[str, str]:
    """What each edit did and how that was checked, by STEP:NUMBER."""
    return {
        f"{step.step}:{edit.number}": f"{edit.summary} ({edit.verdict or 'not checked'})"
        for step in steps
        for edit in step.edits
    }


def _pairs(view: GraphView) -> Iterator[tuple[GraphGroup | None, GraphGroup | None]]:
    """Every part before and after, those that are new where they stand among the others."""
    for group in view.before.groups:
        yield group, view.after.group(group.id)
    for group in view.after.groups:
        if view.before.group(group.id) is None:
            yield None, group


def _row(before: GraphGroup | None, after: GraphGroup | None) -> PartRow:
    either = after or before
    assert either is not None
    both = (before, after)
    return PartRow(
        title=either.title,
        nodes=(f"{before.nodes:,}" if before else "", f"{after.nodes:,}" if after else ""),
        weights=(_bytes(before), _bytes(after)),
        seconds=(_seconds(before), _seconds(after)),
        operators=(_operators(both[0]), _operators(both[1])),
        passes=", ".join(after.passes) if after else "taken out",
        fused=bool(after and after.fused),
    )


def _bytes(group: GraphGroup | None) -> str:
    return bytes_text(group.weight_bytes) if group is not None and group.weight_bytes else ""


def _seconds(group: GraphGroup | None) -> str:
    return f"{number(1e3 * group.seconds)} ms" if group is not None and group.seconds is not None else ""


def _operators(group: GraphGroup | None) -> str:
    return (
        ", ".join(f"{count} {name.rpartition('::')[2]}" for name, count in group.operators.items())
        if group
        else ""
    )


def _charts(view: GraphView, key: str, of: str, timed: bool) -> Iterator[Chart]:
    sides = [_by_kind(side, "weight_bytes") for side in (view.before, view.after)]
    unit, _ = scaled_bytes([int(size) for side in sides for size in side.values()])
    factor = {"GB": 1e-9, "MB": 1e-6, "kB": 1e-3, "B": 1.0}[unit]
    if any(size for side in sides for size in side.values()):
        yield _pairs_chart(f"{key}-parts-bytes", f"Weights by part{of}", unit, factor, *sides)
    if timed:
        spent = [_by_kind(side, "seconds") for side in (view.before, view.after)]
        yield _pairs_chart(f"{key}-parts-time", f"Time of a call by part{of}", "ms", 1e3, *spent)


def _by_kind(side: GraphSide, what: str) -> dict[str, float]:
    """The sum over parts of one kind: those that are alike in every layer."""
    found: dict[str, float] = {}
    for group in side.groups:
        kind = group.title if group.layer is None else group.title.partition(": ")[2] or "layers"
        found[kind] = found.get(kind, 0.0) + (getattr(group, what) or 0.0)
    return found


def _pairs_chart(
    key: str, title: str, unit: str, factor: float, before: dict[str, float], after: dict[str, float]
) -> Chart:
    kinds = sorted({*before, *after}, key=lambda kind: -max(before.get(kind, 0.0), after.get(kind, 0.0)))
    most = max([*before.values(), *after.values()])
    large = [k for k in kinds if max(before.get(k, 0.0), after.get(k, 0.0)) > _VISIBLE * most]
    shown = large[:_CHARTED]
    rest = [kind for kind in kinds if kind not in shown]
    bars = [(kind, before.get(kind, 0.0), after.get(kind, 0.0)) for kind in shown]
    if rest:
        bars.append(
            (f"{len(rest)} more", sum(before.get(k, 0.0) for k in rest), sum(after.get(k, 0.0) for k in rest))
        )
    rows = [
        {"name": name, "side": side, "value": value * factor, "text": f"{number(value * factor)} {unit}"}
        for name, *values in bars
        for side, value in zip(("before", "after"), values, strict=True)
    ]
    said = "; ".join(
        f"{name} {number(a * factor)} before, {number(b * factor)} {unit} after" for name, a, b in bars
    )
    return Chart(key, "pairs", title, said, {"rows": rows, "unit": unit})


def _side(side: GraphSide, other: GraphSide, edits: Mapping[str, str]) -> dict[str, Any]:
    groups = []
    for group in side.groups:
        twin = other.group(group.id)
        told = {
            name: {
                "did": edits.get(name, ""),
                "from": origin.sources,
                "more": origin.left_out,
                "through": [f"{one} {edits.get(one, '')}".strip() for one in origin.through],
            }
            for name, origin in group.origins.items()
        }
        groups.append(
            {
                "id": group.id,
                "title": group.title,
                "sub": _sub(group),
                "fused": group.fused or bool(twin and twin.fused),
                "alone": twin is None,
                "x": group.x,
                "y": group.y,
                "passes": group.passes,
                "operators": group.operators,
                "nodes": [[node.name, node.operator, node.edit] for node in group.nodes_listed],
                "more": group.nodes_left_out,
                "origins": told,
            }
        )
    return {"groups": groups, "edges": [[edge.source, edge.target] for edge in side.edges]}


def _sub(group: GraphGroup) -> str:
    parts = [plural(group.nodes, "node"), _bytes(group), _seconds(group)]
    return " · ".join(part for part in parts if part)
