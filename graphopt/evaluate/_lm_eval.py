"""Task files on this machine, run by lm-eval over a model of ours. Only calling this needs the extra."""

from __future__ import annotations

import contextlib
import io
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graphopt.errors import BadInput, EnvironmentProblem
from graphopt.evaluate._bindings import SEED
from graphopt.evaluate._task_model import TaskModel

__all__ = ["Asked", "answered", "require_lm_eval"]

_HINT = "pip install 'graphopt[tasks]'"
_FORM = "A task file is YAML with `task: NAME` and its data beside it, as lm-eval has them."
_NEW_TOKENS = "max_gen_toks"


@dataclass(frozen=True)
class Asked:
    """A question of a task, by its digest, and what its answer was worth: 1 right, 0 wrong."""

    name: str
    worth: float


def require_lm_eval() -> None:
    """Raise `EnvironmentProblem` unless lm-eval can be imported."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
    try:
        import lm_eval.api.model
    except ImportError as error:
        raise EnvironmentProblem(f"task metrics need lm-eval: {error}", hint=_HINT) from error
    logging.getLogger(lm_eval.__name__).setLevel(logging.ERROR)


def answered(
    models: Sequence[TaskModel], place: Path, limit: int | None
) -> list[tuple[str, str, list[list[Asked]]]]:
    """Each task of `place`, a .yaml file or a folder of them: its name, what counts, and answers by model.

    Paths in a task file are relative to its folder. What counts is the first of the task's metrics, on what
    its first filter leaves. `BadInput` where there is no task, or its metric is no share of right answers.
    """
    from lm_eval.tasks import TaskManager

    folder = (place if place.is_dir() else place.parent).resolve()
    with contextlib.chdir(folder):
        several = [str(folder)] if place.is_dir() else []
        known = TaskManager(include_path=several, include_defaults=False)
        asked = known.all_subtasks if several else [place.name]
        if not asked:
            raise BadInput(f"{place} holds no task", hint=_FORM)
        found = [_run(model, asked, known, limit, place) for model in models]
    return [
        (name, _counted(name, samples)[0], [_counted(name, one[name])[1] for one in found])
        for name, samples in found[0].items()
    ]


def _run(
    model: TaskModel, asked: Sequence[str], known: Any, limit: int | None, place: Path
) -> dict[str, list[dict[str, Any]]]:
    """What lm-eval keeps of each question, by task. `asked` are names that are `known`, or paths."""
    from lm_eval.evaluator import evaluate

    try:
        with contextlib.redirect_stderr(io.StringIO()):  # progress bars
            loaded = known.load(list(asked))
            for task in loaded["tasks"].values():
                task.set_config(key="num_fewshot", value=task.get_config("num_fewshot") or 0)
                task.set_fewshot_seed(seed=SEED)
            found = evaluate(
                lm=_adapter(model), task_dict=loaded, limit=limit, bootstrap_iters=0, log_samples=True
            )
    except BadInput:
        raise
    except Exception as error:  # of task files lm-eval raises anything
        raise BadInput(f"lm-eval cannot run {place}: {error}", hint=_FORM) from error
    assert found is not None
    return dict(found["samples"])


def _counted(name: str, samples: Sequence[dict[str, Any]]) -> tuple[str, list[Asked]]:
    """The metric that counts in a task, and what each of its questions is worth by it."""
    metric, first = str(samples[0]["metrics"][0]), samples[0]["filter"]
    questions = []
    for sample in samples:
        if sample["filter"] == first:
            worth = sample[metric]
            if not isinstance(worth, int | float) or not 0 <= worth <= 1:
                raise BadInput(
                    f"{name} counts {metric}, which is no share of right answers",
                    hint="Put a metric like acc or exact_match first in its metric_list.",
                )
            questions.append(Asked(f"sha256:{sample['doc_hash']}", float(worth)))
    return metric, questions


def _adapter(model: TaskModel) -> Any:
    """`model` as lm-eval calls one."""
    from lm_eval.api.model import LM

    class Adapter(LM):  # type: ignore[misc]
        def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
            return [model.continuation(*request.args) for request in requests]

        def loglikelihood_rolling(self, requests: Sequence[Any]) -> list[float]:
            return [model.whole(*request.args) for request in requests]

        def generate_until(self, requests: Sequence[Any]) -> list[str]:
            return [_generated(model, *request.args) for request in requests]

    return Adapter()


def _generated(model: TaskModel, prompt: str, wanted: dict[str, Any]) -> str:
    if wanted.get("do_sample") and wanted.get("temperature", 1):
        raise BadInput("a task draws its answers at random: equal models would not answer alike")
    until = wanted.get("until") or []
    stop = [until] if isinstance(until, str) else list(until)
    length = {"max_new_tokens": int(wanted[_NEW_TOKENS])} if _NEW_TOKENS in wanted else {}
    return model.answer(prompt, stop=stop, **length)
