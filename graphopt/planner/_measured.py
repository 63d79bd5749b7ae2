"""Damages of a model's own weights, measured before it is planned for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from graphopt.errors import BadInput
from graphopt.plan import PLAN, Plan
from graphopt.planner._recipes import Storing
from graphopt.planner._sensitivities import Sensitivities
from graphopt.planner._source import Planned

if TYPE_CHECKING:
    from graphopt.sweep import Engine

__all__ = ["with_damages"]

_ANY = "bpw=32"


def with_damages(
    planned: Planned,
    recipes: Sequence[str],
    *,
    target: str | None = None,
    threads: int = 1,
    ray: str = "local",
    watch: Callable[[Engine], None] = lambda _: None,
) -> Planned:
    """`planned` with the damages of its own weights, stored as the first of `recipes` that shares out bits
    does.

    Where no earlier run measured them, they are measured now, by tasks of so many `threads` (see
    `graphopt.sweep.damages`), and kept for the next plan. `ray` and errors as for `graphopt.sweep.run`;
    `BadInput` for a shape without weights, and where no recipe shares out bits.
    """
    if planned.source is None:
        raise BadInput(f"{planned.name} is a shape without weights: nothing of it can be measured")
    storing = next((one for one in map(Storing, recipes) if one.planner is not None), None)
    if storing is None:
        raise BadInput(
            f"no recipe shares out bits: {', '.join(recipes)}",
            hint="Weigh one that does, with --recipe.",
        )
    known = planned.sensitivities
    if known is not None and known.planning == storing.planning:
        return planned
    from graphopt.build import chosen_target, configured
    from graphopt.sweep import Measure, Trial, damages

    recipe = configured(storing.name, (), chosen_target(target), (_ANY,))
    trial = Trial(planned.source, recipe, target)
    made, options = damages(trial, Measure((), cores=threads), ray=ray, watch=watch)
    _keep(planned.source, {"options": options, PLAN: made})
    return replace(planned, sensitivities=Sensitivities.of(Plan.model_validate(made), options))


def _keep(source: str, plan: dict[str, Any]) -> None:
    from graphopt.cache import RunCache
    from graphopt.export import resolve_source

    cache = RunCache.open(resolve_source(source), "auto", {})
    if cache is not None:
        cache.keep_plan(plan)
