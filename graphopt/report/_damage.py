"""Where accuracy went: what edits that give some up did to each part of the model."""

from __future__ import annotations

from dataclasses import dataclass

from graphopt.metrics import METRICS, Metric
from graphopt.report._graph_view import GraphGroup
from graphopt.report._model import EditReport, PassReport, Report

__all__ = ["LayerDamage", "damage_by_layer"]


@dataclass(frozen=True)
class LayerDamage:
    """What the edits of a step did to a part of the model: `group` is the id of a group of the role's view.

    `metric` is the key in `graphopt.metrics.METRICS` of `value`, the worst of so many `edits`, each of which
    may be `bound`; `strain` is how near that is (`Metric.strain`), comparable among all of one metric.
    `layer` is None for what is in none, `group` empty for what is in no group any more.
    """

    role: str
    step: str
    metric: str
    group: str
    title: str
    layer: int | None
    edits: int
    value: float
    bound: float
    strain: float


def damage_by_layer(report: Report) -> list[LayerDamage]:
    """For each step that gives up accuracy and was measured, each part of the model, in the graph's order."""
    found = []
    for step in report.passes:
        metric = METRICS.get(step.contract.removeprefix("lossy(").partition(" ")[0])
        measured = [e for e in step.edits if e.outcome == "applied" and e.verdict == "within budget"]
        if metric is None or not measured:
            continue
        view = report.views.get(step.role)
        left = {f"{step.step}:{edit.number}": edit for edit in measured}
        for group in view.after.groups if view is not None else ():
            inside = [left.pop(name) for name in group.edits if name in left]
            if inside:
                found.append(_damage(step, metric, inside, group))
        if left:
            found.append(_damage(step, metric, list(left.values()), None))
    return found


def _damage(
    step: PassReport, metric: Metric, edits: list[EditReport], group: GraphGroup | None
) -> LayerDamage:
    worst = max(edits, key=lambda edit: metric.strain(edit.value, edit.bound))
    return LayerDamage(
        role=step.role,
        step=step.step,
        metric=metric.key,
        group=group.id if group else "",
        title=group.title if group else "elsewhere",
        layer=group.layer if group else None,
        edits=len(edits),
        value=worst.value,
        bound=worst.bound,
        strain=metric.strain(worst.value, worst.bound),
    )
