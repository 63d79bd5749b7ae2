"""A plan anew, once a package was measured that was made by it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from graphopt.metrics import METRICS
from graphopt.plan._allocate import allocate
from graphopt.plan._bounds import Bound, parse_bounds
from graphopt.plan._damages import Together
from graphopt.plan._plan import Attempt, Plan
from graphopt.plan._table import Choice, Table, Unit

__all__ = ["corrected", "keeps"]

_DAMAGE, _SECONDS, _RATE = "kl_mean", "tpot", "decode_tokens_per_second"
_MARGIN = 0.97
"""Of a bound that is of a measurement, what is planned for the second time. A judgement: from one plan to one
near it, damage is off by some percents (benchmarks/allocation.py), and there is no third time."""


def keeps(plan: Plan, measured: Mapping[str, float]) -> bool:
    """Whether what was `measured` of its package, by metric, is within the budget of `plan`."""
    return all(
        METRICS[metric].holds(measured[metric], bound)
        for metric, bound in plan.bounds.items()
        if metric in measured
    )


def corrected(plan: Plan, measured: Mapping[str, float]) -> Plan:
    """The plan for the same budget, everything being off as the package of `plan` was `measured` to be.

    Damages are as many times as large, and bytes and seconds as much more. Raises `CheckFailed` where no plan
    keeps to the budget then.
    """
    factor = measured[_DAMAGE] / plan.predicted[_DAMAGE] if _DAMAGE in measured else 1.0
    table = Table(
        [_unit(plan, number) for number in range(len(plan.units))],
        Together(plan.scale * factor, plan.power),
        dict(_fixed(plan, measured)),
    )
    made = allocate(
        table,
        [_planned_for(bound) for bound in parse_bounds(plan.budget)],
        step=plan.step,
        smallest=plan.smallest,
    )
    before = Attempt(predicted=plan.predicted, measured=dict(measured))
    return made.model_copy(update={"bounds": plan.bounds, "joint": plan.joint, "before": before})


def _unit(plan: Plan, number: int) -> Unit:
    planned = plan.units[number]
    choices = [
        Choice(form, damage, size, planned.seconds.get(form))
        for form, (damage, size) in planned.others.items()
    ]
    return Unit(planned.names, planned.entries, tuple(choices))


def _fixed(plan: Plan, measured: Mapping[str, float]) -> Iterator[tuple[str, float]]:
    for metric, value in plan.fixed.items():
        off = measured.get(metric, 0.0) - plan.predicted[metric] if metric in measured else 0.0
        if metric == _SECONDS and metric not in measured and _RATE in measured:
            off = 1 / measured[_RATE] - 1 / plan.predicted[_RATE]
        yield metric, value + off


def _planned_for(bound: Bound) -> Bound:
    if bound.metric == _RATE:
        return replace(bound, value=bound.value / _MARGIN)
    if bound.metric in (_DAMAGE, _SECONDS):
        return replace(bound, value=bound.value * _MARGIN)
    return bound
