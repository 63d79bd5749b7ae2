"""A plan as a person reads it when a run is over."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from graphopt.plan import Plan
from graphopt.report._plan import correction, forms_text, held, named
from graphopt.report._text import bytes_text, plural

__all__ = ["plan_text"]

_UNITS = 40
"""A screen of units: the report has all of them."""


def plan_text(plan: Plan) -> RenderableType:
    """What was asked, predicted and measured; the least damage by size; and the reason of each unit."""
    lines: list[RenderableType] = [
        Text.assemble((" plan", "bold"), " within ", (", ".join(plan.budget), "bold cyan"))
    ]
    if said := correction(plan):
        lines.append(Padding(Text(said), (0, 0, 0, 1)))
    lines += [_held(plan), _pareto(plan), _units(plan)]
    if len(plan.units) > _UNITS:
        more = f"{plural(len(plan.units) - _UNITS, 'more unit')}: see the report"
        lines.append(Padding(Text(more, style="dim"), (0, 0, 0, 1)))
    return Group(*lines)


def _table(*heads: str, numbers: tuple[int, ...]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for index, head in enumerate(heads):
        table.add_column(head, justify="right" if index in numbers else "left", no_wrap=index in numbers)
    return table


def _held(plan: Plan) -> Table:
    table = _table(" metric", "bound", "predicted", "measured", "off by", numbers=(1, 2, 3, 4))
    for one in held(plan):
        table.add_row(f" {one.label}", one.bound, one.predicted, one.measured, one.off)
    return table


def _pareto(plan: Plan) -> Table:
    table = _table(" bits a weight", "bytes", "least KL", "weights", numbers=(0, 1, 2))
    for point in plan.pareto:
        table.add_row(
            f"{point.bpw:.3g}", bytes_text(point.bytes), f"{point.kl_mean:.3g}", forms_text(point.forms)
        )
    return table


def _units(plan: Plan) -> Table:
    table = _table(" weights", "form", "bytes", "KL alone", "why", numbers=(2, 3))
    for one in plan.units[:_UNITS]:
        table.add_row(
            f" {named(one.names)}", one.form, bytes_text(one.bytes), f"{one.damage:.2g}", one.reason
        )
    return table
