"""From what is known of units and a budget to a plan."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from graphopt.errors import BadInput, CheckFailed
from graphopt.plan._bounds import Bound
from graphopt.plan._plan import ParetoPoint, Plan, PlannedUnit
from graphopt.plan._solve import Costs, solve, total
from graphopt.plan._table import Choice, Table, Unit

__all__ = ["Objective", "allocate", "pareto", "predicted"]

Objective = Literal["damage", "bytes", "seconds"]
_POINTS = 10


@dataclass(frozen=True)
class _Row:
    """How a metric follows from the sum of a cost, and what sum a bound of it allows."""

    cost: Objective
    value: Callable[[Table, float], float]
    limit: Callable[[Table, float], float]


def _bytes_of(metric: str) -> _Row:
    return _Row(
        "bytes",
        lambda table, total: total + table.fixed.get(metric, 0.0),
        lambda table, bound: bound - table.fixed.get(metric, 0.0),
    )


def _seconds(table: Table) -> float:
    return table.fixed.get("tpot", 0.0)


_ROWS: Mapping[str, _Row] = {
    "kl_mean": _Row(
        "damage",
        lambda table, total: table.together.of(total),
        lambda table, bound: table.together.sum_for(bound),
    ),
    "bpw": _Row(
        "bytes",
        lambda table, total: 8 * total / table.entries,
        lambda table, bound: bound * table.entries / 8,
    ),
    "weight_bytes": _bytes_of("weight_bytes"),
    "package_bytes": _bytes_of("package_bytes"),
    "peak_memory": _bytes_of("peak_memory"),
    "tpot": _Row(
        "seconds",
        lambda table, total: total + _seconds(table),
        lambda table, bound: bound - _seconds(table),
    ),
    "decode_tokens_per_second": _Row(
        "seconds",
        lambda table, total: 1 / (total + _seconds(table)),
        lambda table, bound: 1 / bound - _seconds(table),
    ),
}


_ALWAYS = ("kl_mean", "bpw")
"""What follows from units alone, with nothing on top of them."""


def allocate(
    table: Table,
    bounds: Sequence[Bound],
    *,
    step: str,
    smallest: Literal["bytes", "seconds"] = "bytes",
) -> Plan:
    """The plan that keeps to `bounds`: the one that is `smallest` where damage is bounded, else does least.

    `step` is the pass that plans. Raises `CheckFailed`, with the bound that is in the way and the nearest
    plan there is, where none keeps to all of them, and `BadInput` where a bound is of time and none was
    measured.
    """
    aimed = {bound.metric: bound.value for bound in bounds}
    objective: Objective = smallest if "kl_mean" in aimed else "damage"
    costs = _costs(table)
    if any("seconds" not in unit[0] for unit in costs) and "seconds" in {
        objective,
        *(_ROWS[metric].cost for metric in aimed),
    }:
        raise BadInput(f"{step}: the target tells no times, and the budget bounds one")
    limits = _limits(table, aimed)
    chosen = solve(costs, objective, limits)
    if chosen is None:
        raise _cannot(table, costs, bounds, step)
    return Plan(
        step=step,
        budget=tuple(bound.text for bound in bounds),
        bounds={bound.metric: bound.value for bound in bounds},
        predicted=predicted(table, chosen),
        units=tuple(_planned(unit, unit.choices[i]) for unit, i in zip(table.units, chosen, strict=True)),
        pareto=tuple(pareto(table)),
        smallest=smallest,
        fixed=dict(table.fixed),
        scale=table.together.scale,
        power=table.together.power,
    )


def predicted(table: Table, chosen: Sequence[int]) -> dict[str, float]:
    """The metrics that follow from these choices, an index for each unit, and from what `table` has fixed."""
    costs = _costs(table)
    return {
        metric: row.value(table, total(costs, chosen, row.cost))
        for metric, row in _ROWS.items()
        if metric in (*_ALWAYS, *table.fixed) and all(row.cost in unit[0] for unit in costs)
    }


def pareto(table: Table) -> list[ParetoPoint]:
    """The least damage at several sizes, from the smallest to the largest that is of use."""
    costs = _costs(table)
    least = sum(min(choice["bytes"] for choice in unit) for unit in costs)
    most = sum(min(unit, key=lambda choice: (choice["damage"], choice["bytes"]))["bytes"] for unit in costs)
    found: dict[float, ParetoPoint] = {}
    for limit in np.geomspace(least, max(least, most), _POINTS):
        chosen = solve(costs, "damage", {"bytes": float(limit)})
        if chosen is not None:
            point = _point(table, costs, chosen)
            found[point.bytes] = point
    return [found[size] for size in sorted(found)]


def _point(table: Table, costs: Sequence[Sequence[Costs]], chosen: Sequence[int]) -> ParetoPoint:
    size = total(costs, chosen, "bytes")
    forms = Counter[str]()
    for unit, index in zip(table.units, chosen, strict=True):
        forms[unit.choices[index].form] += len(unit.names)
    return ParetoPoint(
        bpw=8 * size / table.entries,
        bytes=round(size),
        kl_mean=table.together.of(total(costs, chosen, "damage")),
        forms=dict(sorted(forms.items())),
    )


def _costs(table: Table) -> list[list[Costs]]:
    return [[_cost(choice) for choice in unit.choices] for unit in table.units]


def _cost(choice: Choice) -> dict[str, float]:
    found = {"damage": choice.damage, "bytes": float(choice.bytes)}
    return found if choice.seconds is None else found | {"seconds": choice.seconds}


def _limits(table: Table, aimed: Mapping[str, float]) -> dict[str, float]:
    """For each cost the strictest limit."""
    limits: dict[str, float] = {}
    for metric, value in aimed.items():
        row = _ROWS[metric]
        limits[row.cost] = min(limits.get(row.cost, np.inf), row.limit(table, value))
    return limits


def _cannot(
    table: Table,
    costs: Sequence[Sequence[Costs]],
    bounds: Sequence[Bound],
    step: str,
) -> CheckFailed:
    """Why no plan keeps to all of `bounds`: the first that cannot be kept beside those before it."""
    kept: dict[str, float] = {}
    for bound in bounds:
        before, kept = kept, {**kept, bound.metric: bound.value}
        if solve(costs, _ROWS[bound.metric].cost, _limits(table, kept)) is not None:
            continue
        nearest = solve(costs, _ROWS[bound.metric].cost, _limits(table, before))
        assert nearest is not None  # it kept to those before
        metric, values = bound.described, predicted(table, nearest)
        beside = " and ".join(b.text for b in bounds if b.metric in before)
        value = _ROWS[bound.metric].value(table, total(costs, nearest, _ROWS[bound.metric].cost))
        point = _point(table, costs, nearest)
        forms = ", ".join(f"{count} of {form}" for form, count in point.forms.items())
        return CheckFailed(
            f"{step}: the budget {bound.text} cannot be met{f' beside {beside}' if beside else ''}: "
            f"the nearest plan has {bound.metric} {metric.text(value)}",
            hint=f"That is {point.bpw:.3g} bits a weight and a predicted KL of {values['kl_mean']:.3g}: "
            f"weights {forms}.",
        )
    raise AssertionError("the bounds can be kept together")


def _planned(unit: Unit, chosen: Choice) -> PlannedUnit:
    return PlannedUnit(
        names=unit.names,
        entries=unit.entries,
        form=chosen.form,
        bytes=chosen.bytes,
        damage=chosen.damage,
        reason=_reason(unit, chosen),
        others={choice.form: (choice.damage, choice.bytes) for choice in unit.choices},
        seconds={c.form: c.seconds for c in unit.choices if c.seconds is not None},
    )


def _reason(unit: Unit, chosen: Choice) -> str:
    """What the nearest smaller and larger forms of use would change."""
    smaller = [c for c in unit.choices if c.bytes < chosen.bytes]
    larger = [c for c in unit.choices if c.bytes > chosen.bytes and c.damage < chosen.damage]
    said = []
    if smaller:
        other = min(smaller, key=lambda c: (c.damage - chosen.damage) / (chosen.bytes - c.bytes))
        said.append(
            f"{other.form} would save {chosen.bytes - other.bytes:,} bytes "
            f"for {other.damage - chosen.damage:+.2g} of KL"
        )
    if larger:
        other = max(larger, key=lambda c: (chosen.damage - c.damage) / (c.bytes - chosen.bytes))
        said.append(
            f"{other.form} would take {other.bytes - chosen.bytes:,} bytes "
            f"for {other.damage - chosen.damage:+.2g} of KL"
        )
    return "; ".join(said) or "there is no other"
