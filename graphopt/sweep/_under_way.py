"""Trials that are being made and measured: more can be added while others run."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from graphopt.metrics import Estimate
from graphopt.sweep._damages import weigh
from graphopt.sweep._engine import Engine
from graphopt.sweep._task import Outcome, Task
from graphopt.sweep._trial import Measure, Trial

__all__ = ["Measured", "UnderWay", "measured"]


@dataclass(frozen=True)
class Measured:
    """What came of a trial: its `metrics`, or the `error` why there is no package, or not all of them.

    `seconds` is what its tasks took together, `known` whether earlier runs had all of them, `final` whether
    the same would come of it again.
    """

    trial: Trial
    metrics: Mapping[str, Estimate] = field(default_factory=dict)
    error: str | None = None
    seconds: float = 0.0
    known: bool = False
    final: bool = True


@dataclass
class _One:
    """A trial, by all the numbers that it has been asked for under."""

    trial: Trial
    measure: Measure
    numbers: list[int]
    outcomes: list[Outcome] = field(default_factory=list)
    left: int = 0
    found: Measured | None = None


class UnderWay:
    """Trials by number on an `engine`. Those that are the same are done once.

    Of a source that nobody exported yet one goes before the others: it leaves in the cache what all of them
    begin with. So do damages that bits are shared out by.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._known: dict[str, _One] = {}
        self._owners: dict[int, tuple[Task, _One]] = {}
        self._exporting: dict[str, list[_One]] = {}
        self._settled: deque[tuple[int, Measured]] = deque()

    def add(self, trials: Mapping[int, tuple[Trial, Measure]]) -> None:
        """Have `trials` done. `BadInput` for a source that is none."""
        weigh(self._engine, trials.values())
        for number, (trial, measure) in trials.items():
            name = repr((trial.arguments(), measure))
            if name not in self._known:
                self._known[name] = _One(trial, measure, [number])
                self._begin(self._known[name])
            elif (found := self._known[name].found) is not None:
                self._settled.append((number, found))
            else:
                self._known[name].numbers.append(number)

    def next(self) -> tuple[int, Measured] | None:
        """What came of a trial, the first that is there; None where all were given."""
        while not self._settled and (outcome := self._engine.next()) is not None:
            self._take(outcome)
        return self._settled.popleft() if self._settled else None

    def _begin(self, one: _One) -> None:
        waiting = self._exporting.get(one.trial.source)
        if waiting is not None:
            waiting.append(one)
            return
        if not self._engine.exported(one.trial.source):
            self._exporting[one.trial.source] = []
        self._submit(one, one.measure.first(one.trial))

    def _submit(self, one: _One, *tasks: Task) -> None:
        for task in tasks:
            self._owners[id(task)] = task, one
            one.left += 1
            self._engine.submit(task)

    def _take(self, outcome: Outcome) -> None:
        _, one = self._owners.pop(id(outcome.task))
        one.outcomes.append(outcome)
        one.left -= 1
        if len(one.outcomes) == 1:
            for other in self._exporting.pop(one.trial.source, ()):
                self._submit(other, other.measure.first(other.trial))
            if outcome.error is None:
                self._submit(one, *one.measure.rest(one.trial))
        if not one.left:
            one.found = _put_together(one)
            self._settled += [(number, one.found) for number in one.numbers]


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
    with Engine(ray, watch) as engine:
        under_way = UnderWay(engine)
        under_way.add(dict(enumerate(zip(trials, ways, strict=True))))
        found = dict(iter(under_way.next, None))
    return [found[number] for number in range(len(trials))]


def _put_together(one: _One) -> Measured:
    metrics = one.measure.found(one.outcomes)
    error = next((outcome.error for outcome in one.outcomes if outcome.error is not None), None)
    missing = [metric for metric in one.measure.metrics if metric not in metrics]
    if error is None and missing:
        error = f"{', '.join(missing)} cannot be measured of such a package"
    broken = [metric for metric, value in metrics.items() if not math.isfinite(value.value)]
    if error is None and broken:
        error = f"{', '.join(broken)} is no finite number"
    seconds = sum(outcome.seconds for outcome in one.outcomes)
    known, final = (all(getattr(each, name) for each in one.outcomes) for name in ("known", "final"))
    return Measured(one.trial, metrics, error, seconds, known, final)
