"""Which target, and which recipe with which options."""

from __future__ import annotations

from collections.abc import Sequence

from graphopt.export import Exported
from graphopt.families import DEFAULT_RECIPE
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


def configured(name: str, settings: Sequence[str], target: Target) -> Recipe:
    """The recipe `name` with `settings` and the target's steps; `BadInput` for an unknown pass or option."""
    recipe = load_recipe(name)
    recipe = with_options(recipe.expanded(target.lowering(recipe)), settings)
    build_steps(recipe)
    return recipe


def default_recipe(exported: Exported) -> str:
    """The name of the recipe for a source where none is asked for: what its family says, else lossless."""
    if exported.family is None:
        return DEFAULT_RECIPE
    return exported.family.default_recipe(exported.task)
