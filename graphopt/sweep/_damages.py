"""Damages of a model's weights, which bits are shared out by, measured in shares before packages are made."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from graphopt.build import decide
from graphopt.errors import BadInput, CheckFailed
from graphopt.plan import PLAN
from graphopt.plugins import registry
from graphopt.recipes import Budget, Recipe, Step
from graphopt.sweep._engine import Engine
from graphopt.sweep._task import Outcome, Task
from graphopt.sweep._trial import Measure, Trial

__all__ = ["damages", "decided", "weigh"]

_BUDGET, _SMALLEST, _PART = "budget", "smallest_plan", "part"
_ANY = "bpw=32"
"""What every plan keeps: damages are the same for all."""


def decided(*, package: Mapping[str, Any]) -> dict[str, Any]:
    """What the passes of the package's recipe decide."""
    for find in (registry.passes, registry.targets, registry.families):
        find()
    with tempfile.TemporaryDirectory() as folder:
        recipe = Path(folder) / f"{package['recipe']}.toml"
        recipe.write_text(package["steps"], encoding="utf-8")
        return decide(
            package["source"],
            recipe=str(recipe),
            target=package["target"],
            calibration=package["calibration"],
        )


def weigh(engine: Engine, trials: Iterable[tuple[Trial, Measure]]) -> dict[str, Outcome]:
    """Have the damages measured that `trials` share bits out by, each once: by as many tasks as find a core.

    What came of it, for each model and recipe. What fails here fails again where the package is made, and is
    said there.
    """
    wanted = {}
    for trial, measure in trials:
        cut = _cut(trial)
        if cut is not None:
            wanted[repr(cut.arguments())] = cut, measure
    if not wanted:
        return {}
    whole = {key: _task(cut, measure) for key, (cut, measure) in wanted.items()}
    new = {key: wanted[key] for key, task in whole.items() if not engine.knows(task)}
    begun = dict(
        zip(new, engine.all([_task(_before(cut), measure) for cut, measure in new.values()]), strict=True)
    )
    failed = {key: one for key, one in begun.items() if one.error is not None}
    shares = []
    for cut, measure in (pair for key, pair in new.items() if key not in failed):
        count = max(1, engine.cores // measure.cores)
        if count > 1:
            shares += [_task(_share(cut, number, count), measure) for number in range(count)]
    engine.all(shares)
    rest = {key: task for key, task in whole.items() if key not in failed}
    return failed | dict(zip(rest, engine.all(list(rest.values())), strict=True))


def damages(
    trial: Trial, measure: Measure, *, ray: str = "local", watch: Callable[[Engine], None] = lambda _: None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """A plan of the weights of the trial's source, which has their damages, as JSON; and the options of the
    pass that made it. `ray` and errors as for `run`.

    Raises `BadInput` where the recipe shares out no bits, and what stands in the way of measuring.
    """
    cut = _cut(trial)
    if cut is None:
        raise BadInput(f"recipe {trial.recipe.name!r} has no pass that shares out bits")
    with Engine(ray, watch) as engine:
        (found,) = weigh(engine, [(trial, measure)]).values()
    if found.error is not None:
        raise (CheckFailed if found.code == CheckFailed.exit_code else BadInput)(found.error)
    if PLAN not in found.value:
        raise BadInput(
            f"damages of {trial.source} cannot be measured: it gives no logits, or nobody knows"
            " text to measure them on"
        )
    return found.value[PLAN], dict(cut.recipe.steps[-1].options)


def _task(trial: Trial, measure: Measure) -> Task:
    return measure.task(trial, decided, {"package": trial.arguments()}, about="damages")


def _cut(trial: Trial) -> Trial | None:
    """The trial up to the step that plans, for any budget; None where none plans."""
    passes = registry.passes()
    for index, step in enumerate(trial.recipe.steps):
        cls = passes.get(step.name)
        if cls is not None and step.options.get(_BUDGET) and _PART in cls.Options.__dataclass_fields__:
            kept = {key: value for key, value in step.options.items() if key != _SMALLEST}
            return _with(trial, (*trial.recipe.steps[:index], replace(step, options={**kept, _BUDGET: _ANY})))
    return None


def _before(cut: Trial) -> Trial:
    """All but the step that plans: what every share begins with."""
    return _with(cut, cut.recipe.steps[:-1])


def _share(cut: Trial, number: int, count: int) -> Trial:
    *before, last = cut.recipe.steps
    return _with(cut, (*before, replace(last, options={**last.options, _PART: f"{number}/{count}"})))


def _with(trial: Trial, steps: tuple[Step, ...]) -> Trial:
    return replace(trial, recipe=Recipe(trial.recipe.name, "What bits cost.", Budget(), steps))
