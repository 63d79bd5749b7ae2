"""A plan on the page: what was promised, what came of it, and why each weight is stored as it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from graphopt.report._model import Report
from graphopt.report._page_parts import Chart, plotted
from graphopt.report._plan import Held, correction, forms_text, held, named
from graphopt.report._text import bytes_text

__all__ = ["PlanPanel", "plans_of"]


@dataclass(frozen=True)
class PlanPanel:
    """One graph's plan. `units` are weights, form, bytes, damage and reason of each unit; `pareto` bits,
    bytes, damage and forms of each point.
    """

    title: str
    budget: str
    correction: str
    held: Sequence[Held]
    chart: Chart
    units: Sequence[tuple[str, str, str, str, str]]
    pareto: Sequence[tuple[str, str, str, str]]


def plans_of(report: Report, key: str) -> Iterator[PlanPanel]:
    """The plan of each graph that has one."""
    for role, plan in report.plans.items():
        points = [{"bpw": p.bpw, "kl": plotted(p.kl_mean), "tip": forms_text(p.forms)} for p in plan.pareto]
        chosen = {"bpw": plan.predicted["bpw"], "kl": plotted(plan.predicted["kl_mean"])}
        text = (
            f"The least predicted damage at {len(points)} sizes; this plan has "
            f"{plan.predicted['bpw']:.3g} bits a weight and a predicted KL divergence of "
            f"{plan.predicted['kl_mean']:.3g}."
        )
        data = {"points": points, "chosen": {**chosen, "measured": plan.measured.get("kl_mean")}}
        yield PlanPanel(
            title="Weights within a budget" + ("" if role == "model" else f": {role}"),
            budget=", ".join(plan.budget),
            correction=correction(plan),
            held=list(held(plan)),
            chart=Chart(f"{key}-plan-{role}", "pareto", "Predicted damage by bits a weight", text, data),
            units=[
                (named(one.names), one.form, bytes_text(one.bytes), f"{one.damage:.2g}", one.reason)
                for one in plan.units
            ],
            pareto=[
                (f"{p.bpw:.3g}", bytes_text(p.bytes), f"{p.kl_mean:.3g}", forms_text(p.forms))
                for p in plan.pareto
            ],
        )
