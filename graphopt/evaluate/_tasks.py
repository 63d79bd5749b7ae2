"""How many questions of tasks a package answers right, beside what it is compared with."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from graphopt.errors import BadInput
from graphopt.evaluate._language import TEXT_GENERATION
from graphopt.evaluate._lm_eval import Asked, answered, require_lm_eval
from graphopt.evaluate._samples import AccuracySamples
from graphopt.evaluate._sides import PackageSide, side_of
from graphopt.evaluate._task_model import TaskModel
from graphopt.metrics import Documents, Sample, mcnemar
from graphopt.package import RunnablePackage

__all__ = ["TASK_METRICS", "measure_tasks"]

TASK_METRICS = frozenset({"task_accuracy"})
"""What `measure_tasks` measures."""


def measure_tasks(
    package: RunnablePackage,
    reference: str | Path,
    baseline: RunnablePackage | None,
    *,
    tasks: Path,
    limit: int | None = None,
    trust_remote_code: bool,
    say: Callable[[str], None],
) -> AccuracySamples:
    """`task_accuracy`, `flips_lost` and `flips_won` of each task of `tasks`, run by lm-eval on this machine.

    `tasks` is a task file of lm-eval's (YAML), or a folder of them; their data are files beside them, nothing
    is fetched, and functions that they name are run. `limit` is how many questions of each are asked. The
    package and what it is compared with, `baseline` or else `reference`, answer the same questions: a
    question is a document of the evidence, and both sides are paired. Flips are against that other side. The
    exact p value of McNemar's test is among the notes. The scope is "task NAME".

    Raises `EnvironmentProblem` where lm-eval is not installed, `BadInput` for a package that is no language
    model and for tasks that it cannot run.
    """
    require_lm_eval()
    if package.manifest.task != TEXT_GENERATION:
        raise BadInput(f"{package.path} is for {package.manifest.task}: it answers no questions of tasks")
    if not tasks.exists():
        raise BadInput(f"{tasks} does not exist", hint="Give a task file of lm-eval's, or a folder of them.")
    other = (
        PackageSide(baseline)
        if baseline is not None
        else side_of(reference, package, trust_remote_code=trust_remote_code)
    )
    models = [TaskModel(side, package.path) for side in (PackageSide(package), other)]
    samples: list[Sample] = []
    notes: list[str] = []
    for name, metric, (own, theirs) in answered(models, tasks, limit):
        say(f"{name}: {len(own)} questions")
        samples += _samples(name, own, theirs)
        notes.append(_compared(name, metric, own, theirs))
    return AccuracySamples(tuple(samples), tasks.name, _digest(samples), notes=tuple(notes))


def _samples(task: str, own: list[Asked], theirs: list[Asked]) -> Iterator[Sample]:
    names = tuple(question.name for question in own)
    mine, other = _worths(own), _worths(theirs)
    scope = f"task {task}"
    yield Sample("task_accuracy", Documents(_each(mine), _each(other), names=names), scope)
    lost, won = (other - mine).clip(min=0), (mine - other).clip(min=0)
    yield Sample("flips_lost", Documents(_each(lost), names=names), scope)
    yield Sample("flips_won", Documents(_each(won), names=names), scope)


def _compared(task: str, metric: str, own: list[Asked], theirs: list[Asked]) -> str:
    mine, other = _worths(own), _worths(theirs)
    text = (
        f"{task}: {metric} of {len(own)} questions is {mine.mean():.4g}, and {other.mean():.4g} of the other"
    )
    if not np.isin([mine, other], (0, 1)).all():
        return text
    won, lost = int((mine > other).sum()), int((mine < other).sum())
    return f"{text}; {won} answers became right and {lost} wrong, p = {mcnemar(won, lost):.3g} (McNemar)"


def _worths(questions: list[Asked]) -> NDArray[np.float64]:
    return np.asarray([question.worth for question in questions])


def _each(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    return tuple(values.reshape(-1, 1))


def _digest(samples: list[Sample]) -> str:
    """Of what was asked: the scopes and the digests of their questions."""
    asked = [(s.scope, s.evidence.names) for s in samples if isinstance(s.evidence, Documents)]
    return f"sha256:{hashlib.sha256(repr(asked).encode()).hexdigest()}"
