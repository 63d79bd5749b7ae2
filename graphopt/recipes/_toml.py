"""A recipe as the TOML file that says all of it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any

from graphopt.recipes._recipe import Recipe

__all__ = ["recipe_toml"]


def recipe_toml(recipe: Recipe) -> str:
    """A recipe file of the same steps and budget that extends none; comments say where each step is from."""
    return "\n".join(_lines(recipe))


def _lines(recipe: Recipe) -> Iterator[str]:
    yield f"description = {_value(recipe.description)}"
    if recipe.alternatives:
        yield f"alternatives = {_value([list(steps) for steps in recipe.alternatives])}"
    yield ""
    if not recipe.budget.lossless:
        yield "[budget]"
        yield from _pairs(recipe.budget.model_dump(exclude_none=True))
        yield ""
    for origin, steps in groupby(recipe.steps, key=lambda step: step.origin):
        yield f"# {origin}"
        for step in steps:
            yield "[[pass]]"
            yield from _pairs({"name": step.name, **step.options})
            yield ""


def _pairs(table: Mapping[str, Any]) -> Iterator[str]:
    return (f"{_key(key)} = {_value(value)}" for key, value in table.items())


def _key(key: str) -> str:
    return key if re.fullmatch("[A-Za-z0-9_-]+", key) else _value(key)


def _value(value: Any) -> str:
    """A value that `tomllib` may have read, as TOML: strings and bools as JSON has them."""
    match value:
        case str() | bool():
            return json.dumps(value)
        case list():
            return f"[{', '.join(map(_value, value))}]"
        case dict():
            return f"{{ {', '.join(_pairs(value))} }}"
    return str(value)
