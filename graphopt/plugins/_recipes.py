"""Recipes by name and from files, and their options from the command line."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from graphopt.errors import BadInput
from graphopt.io import is_count, read_toml
from graphopt.plugins import registry
from graphopt.recipes import Budget, Recipe, Step

__all__ = ["load_recipe", "with_options"]


class _StepFile(BaseModel):
    model_config = ConfigDict(extra="allow")
    name: str


class _RecipeFile(BaseModel):
    model_config = ConfigDict(extra="forbid")
    description: str = ""
    budget: Budget = Budget()
    steps: list[_StepFile] = Field(alias="pass")


def load_recipe(name: str) -> Recipe:
    """The installed recipe called `name`, or the one in the TOML file of that path; `BadInput` if neither."""
    if name.endswith(".toml"):
        path = Path(name)
        if not path.is_file():
            raise BadInput(f"recipe file {name} does not exist")
    else:
        path = registry.resolve("recipe", name, registry.recipes())
    try:
        parsed = _RecipeFile.model_validate(read_toml(path))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BadInput(f"recipe {path}: {where}: {first['msg']}") from error
    steps = tuple(Step(s.name, dict(s.model_extra or {})) for s in parsed.steps)
    return Recipe(path.stem, parsed.description, parsed.budget, steps)


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
