"""A trial: a package by a recipe, and what is measured of it, as calls that a node can do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from graphopt.build import optimize
from graphopt.cache import Keep, call_key, export_key
from graphopt.errors import BadInput
from graphopt.evaluate import (
    ENCODER_METRICS,
    FACTS,
    LANGUAGE_METRICS,
    SPEED_METRICS,
    measure_accuracy,
    measure_facts,
    measure_speed,
)
from graphopt.export import resolve_source
from graphopt.metrics import METRICS, Documents, Estimate, Evidence, Exact, Sample, infer
from graphopt.package import RunnablePackage
from graphopt.plugins import registry
from graphopt.recipes import Recipe, recipe_toml
from graphopt.sweep._task import Outcome, Task

__all__ = ["MEASURED", "Measure", "Trial", "accuracy", "built", "speed"]

_HERE = "graphopt.sweep._trial"
_PACKAGE = "package"
_ACCURACY = frozenset(LANGUAGE_METRICS) | frozenset(ENCODER_METRICS)
_CHANGES = {"census_changes", "interface_changes"}
_COUNTED = {"top1_mismatches", "mismatched_values"}
"""Metrics of which parts of the data have parts; of other exact ones the worst is that of the whole."""
MEASURED = tuple(key for key in METRICS if key in {*FACTS, *_ACCURACY, *SPEED_METRICS} - _CHANGES)
"""The metrics that trials can be asked for: a package has those of its kind."""


@dataclass(frozen=True)
class Trial:
    """`source` by `recipe`, which says all: no group, no `@lower` (see `graphopt.build.configured`)."""

    source: str
    recipe: Recipe
    target: str | None = None
    calibration: str | None = None

    def arguments(self) -> dict[str, Any]:
        """What makes the package, as JSON."""
        return {
            "source": _absolute(self.source),
            "recipe": self.recipe.name,
            "steps": recipe_toml(self.recipe),
            "target": self.target,
            "calibration": None if self.calibration is None else _absolute(self.calibration),
        }


@dataclass(frozen=True)
class Measure:
    """`metrics` (keys of `MEASURED`) and how they are measured, as by `graphopt validate` and `bench`.

    Speed has `threads`; everything else of a trial may take `cores` and `memory` (bytes). Accuracy is
    measured in `shards`, tasks of their own, each on its part of the data.
    """

    metrics: tuple[str, ...]
    data: str | None = None
    tokens: int = 4096
    prompt_tokens: int = 256
    new_tokens: int = 64
    rounds: int = 3
    threads: int = 1
    cores: int = 1
    memory: int = 0
    shards: int = 1

    def first(self, trial: Trial) -> Task:
        """The task that makes the package and looks at its files."""
        facts = [metric for metric in self.metrics if metric in FACTS]
        return self.task(trial, built, {"package": trial.arguments(), "metrics": facts})

    def rest(self, trial: Trial) -> list[Task]:
        """The tasks that run it."""
        tasks = []
        package = trial.arguments()
        accurate = [metric for metric in self.metrics if metric in _ACCURACY]
        if accurate:
            data = None if self.data is None else _absolute(self.data)
            said: dict[str, Any] = {"package": package, "metrics": accurate, "data": data}
            said["tokens"] = self.tokens
            for shard in range(self.shards):
                part = {"part": [shard, self.shards]}
                tasks.append(self.task(trial, accuracy, said | part))
        if any(metric in SPEED_METRICS for metric in self.metrics):
            lengths = {"prompt_tokens": self.prompt_tokens, "new_tokens": self.new_tokens}
            said = {"package": package, "rounds": self.rounds, "threads": self.threads, **lengths}
            tasks.append(self.task(trial, speed, said, alone=True))
        return tasks

    def task(
        self,
        trial: Trial,
        function: Any,
        arguments: dict[str, Any],
        *,
        alone: bool = False,
        about: str | None = None,
    ) -> Task:
        """A call of `function` for `trial`, with what it may take declared; `about` is what it does."""
        return Task(
            f"{function.__module__}:{function.__name__}",
            arguments,
            (_absolute(trial.source),),
            cores=self.threads if alone else self.cores,
            memory=self.memory,
            alone=alone,
            about=f"{about or function.__name__} by {trial.recipe.name}",
        )

    def found(self, outcomes: Sequence[Outcome]) -> dict[str, Estimate]:
        """The `metrics` that are in the outcomes of a trial's tasks."""
        values: dict[str, Estimate] = {}
        parts: list[Mapping[str, Any]] = []
        for one in outcomes:
            if one.task.function == _name(accuracy):
                parts += [one.value] if one.value else []
            else:
                values |= {metric: Estimate(*value) for metric, value in (one.value or {}).items()}
        if parts:
            values |= together(sorted(parts, key=lambda part: int(part["part"])))
        return {metric: values[metric] for metric in self.metrics if metric in values}


def built(*, package: Mapping[str, Any], metrics: Sequence[str]) -> dict[str, list[float]]:
    """Make the package, and measure those `metrics` that are facts: value, low, high of each."""
    samples = measure_facts(_package(package), None, metrics=metrics)
    return {sample.metric: _three(infer(sample.evidence).interval(0.95)) for sample in samples}


def accuracy(
    *, package: Mapping[str, Any], metrics: Sequence[str], data: str | None, tokens: int, part: Sequence[int]
) -> dict[str, Any]:
    """Measure `metrics` of the package beside its source on a part of the data: evidence of each."""
    found = measure_accuracy(
        _package(package),
        package["source"],
        None,
        metrics=metrics,
        data=None if data is None else Path(data),
        tokens=tokens,
        trust_remote_code=False,
        say=lambda _: None,
        calibration=None if package["calibration"] is None else Path(package["calibration"]),
        part=(part[0], part[1]),
    )
    return {"part": part[0], "samples": [_evidence(sample) for sample in found.samples]}


def _evidence(sample: Sample) -> list[Any]:
    match sample.evidence:
        case Documents(values, _, statistic, names):
            of_documents = [[name, one.tolist()] for name, one in zip(names, values, strict=True)]
            return [sample.metric, sample.scope, statistic, of_documents]
        case Exact(value):
            return [sample.metric, sample.scope, None, value]
    raise TypeError(f"accuracy is no {type(sample.evidence).__name__}")


def together(parts: Sequence[Mapping[str, Any]]) -> dict[str, Estimate]:
    """What parts of the data, in their order, say together, by metric: of everything, or of the output that
    is worst. To the last bit that is what the whole says."""
    found: dict[tuple[str, str], tuple[Any, list[Any]]] = {}
    for metric, scope, statistic, values in (sample for part in parts for sample in part["samples"]):
        found.setdefault((metric, scope), (statistic, []))[1].append(values)
    estimates: dict[str, Estimate] = {}
    for (metric, scope), (statistic, values) in found.items():
        if scope and (metric, "") in found:
            continue
        one = infer(_joined(metric, statistic, values)).interval(0.95)
        worst = METRICS[metric].worst
        if metric not in estimates or worst((one.value, estimates[metric].value)) == one.value:
            estimates[metric] = one
    return estimates


def _joined(metric: str, statistic: Any, values: list[Any]) -> Evidence:
    if statistic is None:
        return Exact(sum(values) if metric in _COUNTED else METRICS[metric].worst(values))
    documents: dict[str, list[float]] = {}
    for name, tokens in (document for part in values for document in part):
        documents.setdefault(name, []).extend(tokens)  # windows of one follow each other
    return Documents(tuple(map(np.asarray, documents.values())), None, statistic, tuple(documents))


def speed(*, package: Mapping[str, Any], **options: Any) -> dict[str, list[float]]:
    """Measure speed and memory of the package in fresh processes; options as for `measure_speed`."""
    found = measure_speed(_package(package).path, **options).speed
    return {metric: _three(one) for metric, one in found.metrics.items()}


def _package(said: Mapping[str, Any]) -> RunnablePackage:
    """The package, from this node's cache, or made.

    Nothing compares it with its source here: that takes longer than most trials, and what a trial does to a
    model is measured on the text that the sweep says.
    """
    for find in (registry.passes, registry.targets, registry.families):
        find()
    parts = [export_key(resolve_source(said["source"]), "auto") or ""]
    key = call_key(f"{_HERE}:_package", said, parts) if parts[0] else None
    if key is None:
        raise BadInput(f"packages of {said['source']} cannot be kept: code of a pack has no file")

    def make(folder: Path) -> None:
        recipe = folder / f"{said['recipe']}.toml"
        recipe.write_text(said["steps"], encoding="utf-8")
        optimize(
            said["source"],
            folder / _PACKAGE,
            recipe=str(recipe),
            target=said["target"],
            calibration=said["calibration"],
            validate=False,
        )

    about = (Path(said["source"]).name, f"package by {said['recipe']}")
    return RunnablePackage.load(Keep().folder(key, about, make) / _PACKAGE)


def _name(function: Any) -> str:
    return f"{_HERE}:{function.__name__}"


def _three(one: Estimate) -> list[float]:
    return [one.value, one.low, one.high]


def _absolute(path: str) -> str:
    """`path` where it is one: nodes work in other folders. Names of models stay."""
    return str(Path(path).absolute()) if Path(path).exists() else path
