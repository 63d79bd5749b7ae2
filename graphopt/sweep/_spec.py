"""SPEC.toml: what a sweep tries, what it measures, and what it is after."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from graphopt.build import chosen_target, configured
from graphopt.errors import BadInput
from graphopt.export import resolve_source
from graphopt.io import nearest, read_toml
from graphopt.metrics import METRICS
from graphopt.plan import Bound, parse_bounds
from graphopt.plugins import load_recipe
from graphopt.recipes import Recipe
from graphopt.sweep._trial import MEASURED, Measure

__all__ = ["Range", "Spec"]

_FUNCTION = re.compile(r"[\w.]+:\w+")
"""What gives text to calibrate on: "module:function"."""

Scalar = bool | int | float | str
Names = Annotated[
    tuple[str, ...], BeforeValidator(lambda given: [given] if isinstance(given, str) else given)
]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=False, defer_build=True)


class Range(_Table):
    """Values of an option: a `choice`, or numbers from `low` to `high`, both included.

    They are integers where both are, multiples of `step` from `low` where that is said, and spread evenly in
    the logarithm with `log`.
    """

    choice: tuple[Scalar, ...] | None = None
    low: int | float | None = None
    high: int | float | None = None
    step: int | float | None = Field(default=None, gt=0)
    log: bool = False

    @model_validator(mode="after")
    def _is_one(self) -> Range:
        if self.choice is not None:
            if (self.low, self.high, self.step, self.log) != (None, None, None, False):
                raise ValueError("a choice has no low, high, step or log")
            if not self.choice:
                raise ValueError("there is nothing to choose from")
            if len({(type(value), value) for value in self.choice}) < len(self.choice):
                raise ValueError("a value is there twice")
            return self
        if self.low is None or self.high is None:
            raise ValueError("it needs a choice, or low and high")
        if not math.isfinite(self.low) or not math.isfinite(self.high) or self.low > self.high:
            raise ValueError(f"there is nothing from {self.low} to {self.high}")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError("in the logarithm it begins above 0 and has no step")
        return self

    @property
    def of_integers(self) -> bool:
        return all(isinstance(value, int) for value in (self.low, self.high, self.step or 1))

    def values(self) -> tuple[Scalar, ...] | None:
        """All of them; None where they are no list."""
        if self.choice is not None:
            return self.choice
        assert self.low is not None
        assert self.high is not None
        if self.log or (self.step is None and not self.of_integers):
            return None
        step = self.step or 1
        return tuple(self.low + i * step for i in range(math.floor((self.high - self.low) / step + 1e-9) + 1))


def _range(given: object) -> object:
    if isinstance(given, list):
        return {"choice": given}
    return given if isinstance(given, Mapping) else {"choice": [given]}


class _Measured(_Table):
    data: str | None = None
    tokens: int = Field(default=4096, ge=2)
    prompt_tokens: int = Field(default=256, ge=1)
    new_tokens: int = Field(default=64, ge=1)
    rounds: int = Field(default=3, ge=1)
    threads: int = Field(default=1, ge=1, le=1024)
    cores: int = Field(default=1, ge=1, le=1024)
    memory_gb: float = Field(default=0, ge=0, allow_inf_nan=False)
    shards: int = Field(default=1, ge=1, le=1024)


class Spec(_Table):
    """A sweep. See docs/sweeps.md.

    `source` and `recipe` are one or several to choose from, `options` ranges of options of passes by
    "PASS[#N].OPTION"; recipes without the pass go without. `objective` are metrics to improve, `metrics`
    others to measure, `budget` what a package has to keep. A trial is chosen from what came
    of all but the `at_once - 1` just before it.
    """

    source: Names = Field(min_length=1)
    recipe: Names = Field(min_length=1)
    target: str | None = None
    calibration: str | None = None
    objective: Names = Field(min_length=1)
    metrics: Names = ()
    budget: Names = ()
    trials: int = Field(default=0, ge=0)
    sampler: Literal["auto", "random", "grid"] = "auto"
    seed: int = Field(default=0, ge=0, lt=2**32)
    at_once: int = Field(default=8, ge=1)
    options: dict[str, Annotated[Range, BeforeValidator(_range)]] = Field(default_factory=dict)
    measure: _Measured = Field(default_factory=_Measured)

    @classmethod
    def read(cls, path: Path) -> Spec:
        """The sweep that a file says. `BadInput` with line and nearest name for what is wrong with it."""
        try:
            table = read_toml(path)
        except OSError as error:
            raise BadInput(f"{path} cannot be read: {error.strerror}") from error
        lines = path.read_text(encoding="utf-8").splitlines()
        try:
            spec = cls.model_validate(table)
        except ValidationError as error:
            raise _said(path, lines, error) from error
        try:
            spec.check()
        except _Wrong as wrong:
            where = f"{path}:{_line(lines, wrong.place)}"
            raise BadInput(f"{where}: {wrong.message}", hint=wrong.hint) from wrong
        return spec

    def check(self) -> None:
        """Raise `BadInput` for names that are not known, and for what cannot be together."""
        for place in ("objective", "metrics"):
            for metric in getattr(self, place):
                if metric not in MEASURED:
                    why = "trials do not measure" if metric in METRICS else "there is no metric"
                    near = nearest(metric, MEASURED)
                    meant = f"Did you mean {near!r}?" if near else f"There are {', '.join(MEASURED)}."
                    raise _Wrong((place,), f"{why} {metric!r}", meant)
        if len(set(self.objective)) < len(self.objective):
            raise _Wrong(("objective",), "a metric is there twice")
        with _at("budget"):
            self.bounds()
        for source in self.source:
            with _at("source"):
                resolve_source(source)
        with _at("target"):
            chosen_target(self.target)
        text, data = self.calibration, self.measure.data
        if text is not None and not Path(text).exists() and not _FUNCTION.fullmatch(text):
            raise _Wrong(("calibration",), f"there is no {text} to calibrate on")
        if data is not None and not Path(data).exists():
            raise _Wrong(("measure", "data"), f"there is no {data} to measure on")
        used = set()
        for name in self.recipe:
            with _at("recipe"):
                used |= {step.name for step in self._expanded(name).steps}
        for key, option in self.options.items():
            self._check_option(key, option, used)
        if self.sampler == "grid":
            for key, option in self.options.items():
                if option.values() is None:
                    raise _Wrong(("options", key), f"{key}: a grid needs a choice, integers or a step")
        elif not self.trials:
            raise _Wrong(("trials",), "trials = N is missing: how many there shall be")

    def _check_option(self, key: str, option: Range, used: set[str]) -> None:
        place = ("options", key)
        name, dot, _ = key.rpartition(".")
        if not dot:
            raise _Wrong(place, f"{key!r} is not PASS[#N].OPTION")
        name = name.partition("#")[0]
        if name not in used:
            near = nearest(name, used)
            hint = f"Did you mean {near!r}?" if near else f"They use {', '.join(sorted(used))}."
            raise _Wrong(place, f"no recipe uses a pass {name!r}", hint)
        values: tuple[Any, ...] = option.values() or (option.low, option.high)
        for recipe in self.recipe:
            if self._takes(recipe, key):
                for value in values:
                    with _at(*place):
                        self.configured(recipe, {key: value})

    def bounds(self) -> tuple[Bound, ...]:
        return parse_bounds(self.budget)

    def measured(self) -> Measure:
        """What is measured of each trial, and how."""
        asked = {*self.objective, *self.metrics, *(bound.metric for bound in self.bounds())}
        said = self.measure.model_dump(exclude={"memory_gb"})
        metrics = tuple(metric for metric in MEASURED if metric in asked)
        return Measure(metrics, memory=int(self.measure.memory_gb * 1e9), **said)

    def ranges(self, recipe: str) -> dict[str, Range]:
        """Those of the options that `recipe` has a pass for."""
        return {key: option for key, option in self.options.items() if self._takes(recipe, key)}

    def grid(self) -> Iterator[dict[str, Scalar]]:
        """All there is, each once: by "source", "recipe" and option."""
        for source, recipe in itertools.product(self.source, self.recipe):
            ranges = self.ranges(recipe)
            for values in itertools.product(*(option.values() or () for option in ranges.values())):
                yield {"source": source, "recipe": recipe, **dict(zip(ranges, values, strict=True))}

    def configured(self, recipe: str, options: Mapping[str, Scalar]) -> Recipe:
        """The recipe with options, and with the damage that the budget allows in the place of its own."""
        settings = [f"{key}={_text(value)}" for key, value in options.items()]
        made = configured(recipe, settings, chosen_target(self.target))
        allowed = {bound.metric: bound.value for bound in self.bounds()}.get("kl_mean")
        if allowed is None or made.budget.lossless:
            return made
        return replace(made, budget=made.budget.model_copy(update={"kl_mean": allowed, "kl_p99": None}))

    def _expanded(self, name: str) -> Recipe:
        recipe = load_recipe(name)
        return recipe.expanded(chosen_target(self.target).lowering(recipe))

    def _takes(self, recipe: str, key: str) -> bool:
        name = key.rpartition(".")[0].partition("#")[0]
        return any(step.name == name for step in self._expanded(recipe).steps)


class _Wrong(BadInput):
    def __init__(self, place: tuple[str, ...], message: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.place = place


class _at:
    """Within the block, what is wrong is wrong at that key of the file."""

    def __init__(self, *place: str) -> None:
        self._place = place

    def __enter__(self) -> None: ...

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, BadInput) and not isinstance(error, _Wrong):
            raise _Wrong(self._place, error.message, error.hint) from error


def _text(value: Scalar) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _said(path: Path, lines: list[str], error: ValidationError) -> BadInput:
    first = error.errors()[0]
    place = tuple(str(part) for part in first["loc"])
    where = f"{path}:{_line(lines, place)}"
    if first["type"] != "extra_forbidden":
        message = first["msg"].removeprefix("Value error, ")
        return BadInput(f"{where}: {'.'.join(place)}: {message}")
    models: dict[str, type[BaseModel]] = {"measure": _Measured, "options": Range}
    known = (models[place[0]] if len(place) > 1 else Spec).model_fields
    near = nearest(place[-1], known)
    hint = f"Did you mean {near!r}?" if near else f"There are {', '.join(known)}."
    return BadInput(f"{where}: there is no {place[-1]!r} here", hint=hint)


def _line(lines: list[str], place: tuple[str, ...]) -> int:
    """The number of the line, from 1, where the key stands, else where its table begins."""
    table, key = (
        (place[0], place[1]) if len(place) > 1 and place[0] in ("options", "measure") else ("", place[0])
    )
    inside, start = not table, 1
    for number, line in enumerate(lines, 1):
        if header := re.match(r"\s*\[+\s*([^\]]+?)\s*\]+", line):
            name = header[1].replace('"', "").replace("'", "")
            inside = name == table
            start = number if inside or name == f"{table}.{key}" else start
            if name in (f"{table}.{key}", key if not table else None):
                return number
        elif inside and re.match(rf"""\s*["']?{re.escape(key)}["']?\s*=""", line):
            return number
    return start
