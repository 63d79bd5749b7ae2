"""A sweep: trials as they are suggested, done, weighed, and told."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from graphopt.errors import BadInput
from graphopt.metrics import METRICS, Estimate
from graphopt.recipes import Recipe, recipe_toml
from graphopt.sweep._damages import weigh
from graphopt.sweep._engine import Engine
from graphopt.sweep._spec import Scalar, Spec
from graphopt.sweep._study import Study
from graphopt.sweep._task import Outcome, Task
from graphopt.sweep._trial import Measure, Trial

__all__ = ["Measured", "Row", "Sweep", "SweepWatch", "measured", "sweep"]


@dataclass(frozen=True)
class Measured:
    """What came of a trial: its `metrics`, or the `error` why there is no package, or not all of them.

    `seconds` is what its tasks took together, `known` whether earlier runs had all of them.
    """

    trial: Trial
    metrics: Mapping[str, Estimate] = field(default_factory=dict)
    error: str | None = None
    seconds: float = 0.0
    known: bool = False


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
    """Try what `spec` says: trials are suggested a batch at a time, done on Ray, and told to Optuna.

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
    with Engine(ray, lambda engine: watch(found, engine)) as engine:
        while suggested := study.batch():
            rows = {one.number: Row(one.number, one.values) for one in suggested}
            found.rows += rows.values()

            def settle(number: int, one: Measured, rows: dict[int, Row] = rows) -> None:
                row = rows[number]
                row.metrics, row.error, row.seconds, row.done = one.metrics, one.error, one.seconds, True
                row.over = _over(spec, one)

            trials = {}
            for number, row in rows.items():
                try:
                    trials[number] = trial_of(spec, row.values)
                except BadInput as error:  # between the ends of a range, which are fine
                    row.error, row.done = str(error), True
            _measure(engine, {number: (trial, measure) for number, trial in trials.items()}, settle)
            for number, row in sorted(rows.items()):
                objectives = None
                if row.error is None:
                    objectives = [row.metrics[metric].value for metric in spec.objective]
                study.tell(number, objectives, row.over, _said(row))
    return found


def measured(
    trials: Sequence[Trial],
    measure: Measure | Sequence[Measure],
    *,
    ray: str = "local",
    watch: Callable[[Engine], None] = lambda _: None,
) -> list[Measured]:
    """Make and measure `trials`, in their order, all by one `measure` or each by its own; `ray` and errors as
    for `run`."""
    ways = [measure] * len(trials) if isinstance(measure, Measure) else measure
    found: dict[int, Measured] = {}
    with Engine(ray, watch) as engine:
        _measure(engine, dict(enumerate(zip(trials, ways, strict=True))), found.__setitem__)
    return [found[number] for number in range(len(trials))]


def _measure(
    engine: Engine, trials: Mapping[int, tuple[Trial, Measure]], settle: Callable[[int, Measured], None]
) -> None:
    """Have `trials` done and say what came of each. Trials that are the same are done once.

    Of a source that nobody exported yet one goes before the others: it leaves in the cache what all of them
    begin with. So do damages that bits are shared out by.
    """
    weigh(engine, trials.values())
    same: dict[str, list[int]] = {}
    for number, (trial, measure) in trials.items():
        same.setdefault(repr((trial.arguments(), measure)), []).append(number)
    todo = {name: trials[numbers[0]] for name, numbers in same.items()}
    outcomes: dict[str, list[Outcome]] = {name: [] for name in todo}
    left = dict.fromkeys(todo, 0)
    owners: dict[int, tuple[Task, str]] = {}
    after: dict[str, list[str]] = {}
    leaders: dict[str, str] = {}

    def submit(name: str, *tasks: Task) -> None:
        for task in tasks:
            owners[id(task)] = task, name
            left[name] += 1
            engine.submit(task)

    def begin(name: str) -> None:
        trial, measure = todo[name]
        submit(name, measure.first(trial))

    for name, (trial, _) in todo.items():
        if trial.source in leaders:
            after[leaders[trial.source]].append(name)
            continue
        if not engine.exported(trial.source):
            leaders[trial.source], after[name] = name, []
        begin(name)
    while (outcome := engine.next()) is not None:
        _, name = owners.pop(id(outcome.task))
        outcomes[name].append(outcome)
        left[name] -= 1
        for other in after.pop(name, ()):
            begin(other)
        if len(outcomes[name]) == 1 and outcome.error is None:
            trial, measure = todo[name]
            submit(name, *measure.rest(trial))
        if not left[name]:
            for number in same[name]:
                settle(number, _put_together(*trials[number], outcomes[name]))


def _put_together(trial: Trial, measure: Measure, outcomes: Sequence[Outcome]) -> Measured:
    metrics = measure.found(outcomes)
    error = next((one.error for one in outcomes if one.error is not None), None)
    missing = [metric for metric in measure.metrics if metric not in metrics]
    if error is None and missing:
        error = f"{', '.join(missing)} cannot be measured of such a package"
    broken = [metric for metric, one in metrics.items() if not math.isfinite(one.value)]
    if error is None and broken:
        error = f"{', '.join(broken)} is no finite number"
    seconds = sum(one.seconds for one in outcomes)
    return Measured(trial, metrics, error, seconds, all(one.known for one in outcomes))


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


def _said(row: Row) -> dict[str, Any]:
    said = asdict(row)
    said["metrics"] = {key: [one.value, one.low, one.high] for key, one in row.metrics.items()}
    return {key: said[key] for key in ("values", "metrics", "error", "over", "seconds")}
