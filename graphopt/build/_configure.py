"""Which target, and which recipe with which options."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from graphopt.errors import BadInput
from graphopt.export import Exported
from graphopt.families import DEFAULT_RECIPE
from graphopt.plan import parse_bounds
from graphopt.plugins import build_steps, load_recipe, registry, with_options
from graphopt.recipes import Recipe
from graphopt.targets import Target

__all__ = ["chosen_target", "configured", "default_recipe"]


def chosen_target(name: str | None) -> Target:
    """The target called `name`, or the first that graphopt brings. `BadInput` for an unknown one."""
    if name is None:
        return registry.default_target()()
    cls: type[Target] = registry.resolve("target", name, registry.targets())
    return cls()


def configured(name: str, settings: Sequence[str], target: Target, budget: Sequence[str] = ()) -> Recipe:
    """The recipe `name` with `settings` and the target's steps; `BadInput` for an unknown pass or option.

    `budget` is what the passes of it that plan have to keep to; `BadInput` where there is none, and for a
    budget that says nothing. A damage that it bounds is what the package is held to.
    """
    recipe = load_recipe(name)
    recipe = recipe.expanded(target.lowering(recipe))
    if budget:
        recipe = _within(recipe, budget)
    recipe = _agreeing(with_options(recipe, settings))
    build_steps(recipe)
    return recipe


def _within(recipe: Recipe, budget: Sequence[str]) -> Recipe:
    bounds = parse_bounds(budget)
    passes = registry.passes()
    planning = {
        step.name
        for step in recipe.steps
        if step.name in passes and "budget" in passes[step.name].Options.__dataclass_fields__
    }
    if not planning:
        raise BadInput(
            f"recipe {recipe.name!r} has no pass that plans for a budget",
            hint="Add one to the recipe, before the one that quantizes weights.",
        )
    text = ",".join(bound.text for bound in bounds)
    return replace(
        recipe,
        budget=recipe.budget.held_to({bound.metric: bound.value for bound in bounds}.get("kl_mean")),
        steps=tuple(
            replace(step, options={**step.options, "budget": text}) if step.name in planning else step
            for step in recipe.steps
        ),
    )


def _agreeing(recipe: Recipe) -> Recipe:
    """With options of a step that decides for a later one as they are there, where it has no own."""
    passes = registry.passes()
    steps = list(recipe.steps)
    for index, step in enumerate(steps):
        cls = passes.get(step.name)
        followers = [s for s in steps[index + 1 :] if cls is not None and s.name == cls.decides_for]
        if cls is not None and followers:
            known = cls.Options.__dataclass_fields__
            there = {name: value for name, value in followers[0].options.items() if name in known}
            steps[index] = replace(step, options={**there, **step.options})
    return replace(recipe, steps=tuple(steps))


def default_recipe(exported: Exported, target: Target) -> str:
    """The name of the recipe for a source where none is asked for: what the target says, else its family,
    else lossless.
    """
    if target.recipe is not None:
        return target.recipe
    if exported.family is None:
        return DEFAULT_RECIPE
    return exported.family.default_recipe(exported.task)
