"""Recipes by name and from files, and their options from the command line."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from graphopt.errors import BadInput
from graphopt.io import is_count
from graphopt.plugins import registry
from graphopt.plugins._recipe_file import read_recipe, recipe_path
from graphopt.recipes import Recipe

__all__ = ["load_recipe", "with_options"]


def load_recipe(name: str) -> Recipe:
    """The installed recipe called `name`, or the one in the TOML file of that path; `BadInput` if neither."""
    return read_recipe(recipe_path(name, Path()))


def with_options(recipe: Recipe, settings: Iterable[str]) -> Recipe:
    """Apply `--set PASS[#N].OPTION=VALUE` texts; without #N every use of the pass is set."""
    steps = list(recipe.steps)
    for text in settings:
        target, separator, value = text.partition("=")
        name, dot, option = target.rpartition(".")
        if not separator or not dot:
            raise BadInput(f"--set {text!r} is not of the form PASS[#N].OPTION=VALUE")
        name, _, number = name.partition("#")
        hits = [index for index, step in enumerate(steps) if step.name == name]
        if not hits:
            registry.resolve("pass", name, registry.passes())
            raise BadInput(
                f"--set {text!r}: recipe {recipe.name!r} does not use pass {name!r}",
                hint=f"It uses: {', '.join(dict.fromkeys(step.name for step in steps))}.",
            )
        if number:
            if not is_count(number) or not 1 <= int(number) <= len(hits):
                raise BadInput(f"--set {text!r}: recipe {recipe.name!r} uses {name!r} {len(hits)} time(s)")
            hits = [hits[int(number) - 1]]
        for index in hits:
            steps[index] = replace(steps[index], options={**steps[index].options, option: value})
    return replace(recipe, steps=tuple(steps))
