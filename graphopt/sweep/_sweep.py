"""A sweep: trials as they are suggested, done, weighed, and told."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from graphopt.errors import BadInput
from graphopt.metrics import METRICS, Estimate
from graphopt.recipes import Recipe, recipe_toml
from graphopt.sweep._engine import Engine
from graphopt.sweep._spec import Scalar, Spec
from graphopt.sweep._study import Study
from graphopt.sweep._trial import Trial
from graphopt.sweep._under_way import Measured, UnderWay

__all__ = ["Row", "Sweep", "SweepWatch", "sweep"]


@dataclass
class Row:
    """A trial of a sweep: what it is, and as far as it is done, what came of it.

    `over` says by how much it is beyond each bound, as a share of the bound: 0 and less is within.
    """

    number: int
    values: Mapping[str, Scalar]
    metrics: Mapping[str, Estimate] = field(default_factory=dict)
    error: str | None = None
    over: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    done: bool = False

    @property
    def feasible(self) -> bool:
        return self.done and self.error is None and all(share <= 0 for share in self.over.values())


@dataclass
class Sweep:
    """A sweep's `rows` so far, of `size`, with `metrics` measured.

    `best` are numbers of trials that keep the budget and that no other such is better than in every
    objective, the one first that is best in the first; of one objective it is one. Of equal trials it is the
    first.
    """

    spec: Spec
    size: int
    metrics: tuple[str, ...]
    rows: list[Row] = field(default_factory=list)

    @property
    def best(self) -> list[int]:
        feasible: list[Row] = []
        for row in self.rows:
            if row.feasible and all(row.values != other.values for other in feasible):
                feasible.append(row)
        front = [row for row in feasible if not any(self._beats(other, row) for other in feasible)]
        ordered = sorted(front, key=lambda row: (self._losses(row), row.number))
        return [row.number for row in (ordered if len(self.spec.objective) > 1 else ordered[:1])]

    def _losses(self, row: Row) -> list[float]:
        values = ((METRICS[metric], row.metrics[metric].value) for metric in self.spec.objective)
        return [value if metric.better == "smaller" else -value for metric, value in values]

    def _beats(self, one: Row, other: Row) -> bool:
        ours, theirs = self._losses(one), self._losses(other)
        return ours != theirs and all(a <= b for a, b in zip(ours, theirs, strict=True))

    def recipe(self, number: int) -> Recipe:
        """The recipe of a trial, all of it."""
        row = next(row for row in self.rows if row.number == number)
        return trial_of(self.spec, row.values).recipe

    def to_json(self) -> dict[str, Any]:
        """Everything as JSON; `recipes` are those of `best`, by number, as files."""
        return {
            "spec": self.spec.model_dump(mode="json"),
            "trials": [asdict(row) | {"feasible": row.feasible} for row in self.rows],
            "best": self.best,
            "recipes": {str(number): recipe_toml(self.recipe(number)) for number in self.best},
        }


SweepWatch = Callable[[Sweep, Engine], None]


def trial_of(spec: Spec, values: Mapping[str, Scalar]) -> Trial:
    """The trial that suggested values stand for."""
    name = str(values["recipe"])
    options = {key: value for key, value in values.items() if key not in ("source", "recipe")}
    return Trial(str(values["source"]), spec.configured(name, options), spec.target, spec.calibration)


def sweep(
    spec: Spec, *, ray: str = "local", storage: str | None = None, watch: SweepWatch = lambda *_: None
) -> Sweep:
    """Try what `spec` says: trials are suggested, done on Ray, and told to Optuna, `spec.at_once` at a time.

    `ray` as for `run`, `storage` as for `Study`: a sweep that is in one already goes on where it was, and
    what was done before is not done again in any case. `watch` is told of everything that changes.

    Raises `BadInput` for a sweep that cannot be, `EnvironmentProblem` where the storage cannot be opened or
    as `run` does.
    """
    spec.check()
    study, measure = Study(spec, storage), spec.measured()
    found = Sweep(spec, study.size, measure.metrics)
    found.rows = [
        Row(number, **{**said, "metrics": {k: Estimate(*v) for k, v in said["metrics"].items()}}, done=True)
        for number, said in sorted(study.told().items())
    ]
    rows = {row.number: row for row in found.rows}
    with Engine(ray, lambda engine: watch(found, engine)) as engine:
        under_way, suggested = UnderWay(engine), study.begun()
        while True:
            suggested += iter(study.suggest, None)
            trials = {}
            for one in suggested:
                row = rows[one.number] = Row(one.number, one.values)
                found.rows.append(row)
                try:
                    trials[one.number] = trial_of(spec, one.values), measure
                except BadInput as error:  # between the ends of a range, which are fine
                    row.error = str(error)
                    _tell(study, row)
            under_way.add(trials)
            settled = under_way.next()
            if settled is not None:
                number, came = settled
                row = rows[number]
                row.metrics, row.error, row.seconds = came.metrics, came.error, came.seconds
                row.over = _over(spec, came)
                _tell(study, row, final=came.final)
            elif not suggested:
                return found
            suggested = []


def _over(spec: Spec, one: Measured) -> dict[str, float]:
    """By how much of each bound a trial is beyond it: the sweep's, and what its recipe is held to."""
    bounds = one.trial.recipe.budget.model_dump(exclude_none=True)
    bounds |= {bound.metric: min(bound.value, bounds.get(bound.metric, math.inf)) for bound in spec.bounds()}
    found = {}
    for metric, bound in bounds.items():
        if metric in one.metrics:
            share = one.metrics[metric].value / bound - 1 if bound else math.inf
            found[metric] = share if METRICS[metric].better == "smaller" else -share
    return found


def _tell(study: Study, row: Row, *, final: bool = True) -> None:
    row.done = True
    objectives = None
    if row.error is None:
        objectives = [row.metrics[metric].value for metric in study.spec.objective]
    study.tell(row.number, objectives, row.over, _said(row) if final else None)


def _said(row: Row) -> dict[str, Any]:
    said = asdict(row)
    said["metrics"] = {key: [one.value, one.low, one.high] for key, one in row.metrics.items()}
    return {key: said[key] for key in ("values", "metrics", "error", "over", "seconds")}
