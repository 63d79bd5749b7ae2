"""Which trials to make: Optuna suggests them, from all that came before, and keeps them in its storage."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphopt.errors import BadInput, EnvironmentProblem, GraphoptError
from graphopt.metrics import METRICS
from graphopt.sweep._ray import require_tune
from graphopt.sweep._spec import Scalar, Spec

if TYPE_CHECKING:
    import optuna

__all__ = ["Study", "Suggested"]

_UNTIMED = {"trials"}
"""What may change without that being another sweep."""


@dataclass(frozen=True)
class Suggested:
    """Trial `number`, from 0: "source", "recipe", and options."""

    number: int
    values: Mapping[str, Scalar]


class Study:
    """A study of Optuna's: TPE for one objective, NSGA-II for several, or random, or a grid.

    What is suggested follows from the seed, the trial's number, what was suggested before, and the results of
    all trials that are `Spec.at_once` or more before it, alone, in whatever order they came: a sweep that was
    interrupted goes on as it would have, and none waits for its neighbours. `storage` is a URL of Optuna's
    (sqlite:///sweep.db, mysql://...), or a file, which is a journal; None: in memory.

    Raises `EnvironmentProblem` where it cannot be opened.
    """

    def __init__(self, spec: Spec, storage: str | None) -> None:
        require_tune()
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._optuna, self.spec = optuna, spec
        self._running = optuna.trial.TrialState.RUNNING
        self._came: dict[int, tuple[Sequence[float] | None, Mapping[str, float], Any]] = {}
        self._grid = list(spec.grid()) if spec.sampler == "grid" else None
        self.size = spec.trials or len(self._grid or ())
        if self._grid is not None:
            self.size = min(self.size, len(self._grid))
        ways = optuna.study.StudyDirection
        smaller = [METRICS[metric].better == "smaller" for metric in spec.objective]
        try:
            self._study = optuna.create_study(
                storage=_opened(storage, optuna),
                study_name=_name(spec),
                directions=[ways.MINIMIZE if one else ways.MAXIMIZE for one in smaller],
                load_if_exists=True,
            )
        except GraphoptError:
            raise
        except Exception as error:  # of SQLAlchemy, a driver, a file system: these have no common base
            why = str(error).strip().splitlines()
            raise EnvironmentProblem(
                f"storage {storage} cannot be opened: {why[0] if why else type(error).__name__}",
                hint="Give a URL such as sqlite:///sweep.db, or the file of a journal.",
            ) from error

    def begun(self) -> list[Suggested]:
        """Trials that an interrupted run suggested and did not tell of, and those that it said nothing of."""
        found = []
        for trial in self._trials():
            running = trial.state == self._running
            if "values" in trial.user_attrs and (running or "said" not in trial.user_attrs):
                found.append(Suggested(trial.number, trial.user_attrs["values"]))
            elif running:  # it was being chosen when the run ended
                self._study.tell(trial.number, state=self._optuna.trial.TrialState.FAIL)
        return found

    def suggest(self) -> Suggested | None:
        """The next trial; None where there is no more, and until the one `Spec.at_once` before it is told."""
        number = len(self._trials())
        behind = number - self.spec.at_once if number < self.size else number - 1
        if not self._pass_on(behind) or number >= self.size:
            return None
        return self._suggest(number)

    def tell(self, number: int, values: Sequence[float] | None, over: Mapping[str, float], said: Any) -> None:
        """What came of a trial: objectives (None: no package), by how much it is `over` each bound, and
        anything else as JSON; None where that was chance, and `begun` gives it to the next run once more. The
        storage hears of it when `suggest` needs it."""
        self._came[number] = values, over, said

    def _pass_on(self, last: int) -> bool:
        """Tell the storage of trials up to `last`, in their order; whether all were told."""
        for trial in self._trials()[: max(0, last + 1)]:
            if trial.state != self._running:
                continue
            if trial.number not in self._came:
                return False
            values, over, said = self._came.pop(trial.number)
            handle = self._optuna.trial.Trial(self._study, trial._trial_id)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that an interrupted run said it already
                for name, value in over.items():
                    handle.set_constraint(name, value)
            if said is not None:
                handle.set_user_attr("said", said)
            state = None if values is not None else self._optuna.trial.TrialState.FAIL
            self._study.tell(trial.number, values, state=state)
        return True

    def _trials(self) -> list[Any]:
        """By number, from 0."""
        found: list[Any] = self._study.get_trials(deepcopy=False)
        return found

    def told(self) -> dict[int, Any]:
        """What was said of the trials that are done, by number."""
        return {
            trial.number: trial.user_attrs["said"]
            for trial in self._trials()
            if "said" in trial.user_attrs and trial.state.is_finished()
        }

    def _suggest(self, number: int) -> Suggested:
        self._study.sampler = self._sampler(number)
        trial = self._study.ask()
        values: dict[str, Scalar] = {}
        if self._grid is not None:
            values = self._grid[trial.number]
        else:
            for name in ("source", "recipe"):
                known = getattr(self.spec, name)
                values[name] = trial.suggest_categorical(name, known) if len(known) > 1 else known[0]
            for key, option in self.spec.ranges(str(values["recipe"])).items():
                values[key] = _suggested(trial, key, option)
        trial.set_user_attr("values", values)
        return Suggested(trial.number, values)

    def _sampler(self, number: int) -> Any:
        digest = hashlib.sha256(f"{self.spec.seed} {number}".encode()).digest()
        seed, samplers = int.from_bytes(digest[:4]), self._optuna.samplers
        if self.spec.sampler != "auto":
            return samplers.RandomSampler(seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what of it is experimental
            if len(self.spec.objective) == 1:
                return samplers.TPESampler(seed=seed)
            population = max(4, min(50, self.size // 5))
            return samplers.NSGAIISampler(population_size=population, seed=seed)


def _suggested(trial: optuna.trial.Trial, key: str, option: Any) -> Any:
    if option.choice is not None:
        return trial.suggest_categorical(key, option.choice)
    if option.of_integers:
        return trial.suggest_int(key, option.low, option.high, step=option.step or 1, log=option.log)
    return trial.suggest_float(key, option.low, option.high, step=option.step, log=option.log)


def _opened(storage: str | None, optuna: Any) -> Any:
    if storage is None or "://" in storage:
        return storage
    from optuna.storages.journal import JournalFileBackend

    folder = Path(storage).absolute().parent
    if not folder.is_dir():
        raise BadInput(f"the folder {folder} does not exist")
    return optuna.storages.JournalStorage(JournalFileBackend(storage))


def _name(spec: Spec) -> str:
    """The same for the same sweep, however many trials it shall have."""
    said = spec.model_dump(mode="json", exclude=_UNTIMED)
    return f"graphopt-{hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]}"
