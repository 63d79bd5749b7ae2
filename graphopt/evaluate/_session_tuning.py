"""How sessions of a package are best set up on this machine, by measuring it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from graphopt.errors import BadInput, EnvironmentProblem
from graphopt.evaluate import _processes
from graphopt.evaluate._bindings import SEED
from graphopt.evaluate._blocks import BASELINE, CONTROL, PACKAGE, Blocks, turns_of
from graphopt.evaluate._closing import LOSSLESS
from graphopt.evaluate._measurable import Measurable, words
from graphopt.evaluate._measurement import Measurement
from graphopt.evaluate._session_race import DEFAULT, SessionRace
from graphopt.evaluate._sides import PackageSide
from graphopt.metrics import Turns, estimate, scaled_difference
from graphopt.package import MeasuredSetting, RunnablePackage, TunedSession, Unchanged
from graphopt.runtime import SessionSettings

__all__ = ["tune_session"]

_PATIENCE, _LEAST_LIMIT = 4.0, 30.0
"""A process is ended that takes so many times as long as the default's, and half a minute."""
_TEXT = 16
"""Tokens of the text on which results are compared."""


def tune_session(
    package: RunnablePackage,
    *,
    prompt_tokens: int = 256,
    new_tokens: int = 64,
    inputs: str | Path | None = None,
    blocks: int = 8,
    choices: Mapping[str, Sequence[Any]] | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> TunedSession:
    """Search for settings with which sessions of `package` are faster here than with its target's own.

    What is timed is a text, its prompt and the new tokens together, or a call; options as for
    `graphopt.evaluate.bench`. `choices` default to the target's (`Target.session_choices`). What the search
    finds is measured again, beside the default and itself, in `blocks` blocks; it is taken where the interval
    of the speedup lies above 1, and else the default stays. Settings that change a result by more than a
    lossless package's may be off are refused.

    Raises `BadInput` where the package cannot be timed, or changes meanwhile; `EnvironmentProblem` where a
    process fails with the target's own settings.
    """
    timer = _Processes(package, prompt_tokens=prompt_tokens, new_tokens=new_tokens, inputs=inputs)
    if choices is None:
        choices = package.target().session_choices()
    results = _Results(package, timer.measurable)
    with Unchanged(package.path) as unchanged:
        timer.look = unchanged.look
        race = SessionRace(choices, timer, refuse=results.refusal, say=say)
        found = race.winner()
        tried = race.tried()
        tuned = TunedSession(fingerprint=package.target().fingerprint(), measured=timer.measured, tried=tried)
        if found == DEFAULT:
            return tuned
        if reason := results.refusal(found):
            return tuned.model_copy(update={"tried": _marked(tried, found, reason)})
        return _held(tuned, found, timer.held_out(found, blocks, say))


def _held(tuned: TunedSession, found: SessionSettings, blocks: Blocks) -> TunedSession:
    """What `blocks` came to: `found`, where it is faster beyond chance."""
    seconds = {
        side: np.asarray([[seconds_of(m) for m in block] for block in measured])
        for side, measured in blocks.found.items()
    }
    speedup = estimate(Turns(seconds[BASELINE], seconds[PACKAGE]), relative=True)
    control = estimate(Turns(seconds[CONTROL], seconds[PACKAGE]), relative=True)
    if not speedup.low > 1:
        said = f"not shown to be faster: {speedup.value:.3g} ({speedup.low:.3g} to {speedup.high:.3g}) times"
        return tuned.model_copy(update={"blocks": blocks.blocks, "tried": _marked(tuned.tried, found, said)})
    return tuned.model_copy(
        update={
            "settings": found,
            "blocks": blocks.blocks,
            "speedup": speedup.value,
            "low": speedup.low,
            "high": speedup.high,
            "control": control.value,
        }
    )


def seconds_of(measured: Measurement) -> float:
    """Of a text, from its prompt to its last token, or of a call; medians inside the process."""
    if measured.prompt_tokens:
        return float(np.median(measured.first_seconds) + np.median(list(map(sum, measured.step_seconds))))
    return float(np.median(np.concatenate([np.asarray(calls) for calls in measured.step_seconds])))


def _marked(
    tried: Sequence[MeasuredSetting], settings: SessionSettings, out: str
) -> tuple[MeasuredSetting, ...]:
    return tuple(one.model_copy(update={"out": out}) if one.settings == settings else one for one in tried)


class _Processes:
    """Times sessions of `package` in fresh processes."""

    def __init__(
        self, package: RunnablePackage, *, prompt_tokens: int, new_tokens: int, inputs: str | Path | None
    ) -> None:
        self.measurable = Measurable(package.path, prompt_tokens=prompt_tokens, inputs=inputs)
        self.measurable.require(package.path)
        generates = self.measurable.generates
        self._metrics = ("ttft", "tpot") if generates else ("call_time",)
        self._folder, self._inputs = package.path, self.measurable.inputs(package.path)
        self._prompt, self._new = prompt_tokens, new_tokens
        self._limit = _processes.LIMIT
        self.look: Callable[[], None] = lambda: None
        self.measured = (
            f"a text of {prompt_tokens} tokens read and {new_tokens} written" if generates else "a call"
        )

    def alone(self, settings: SessionSettings) -> float | None:
        started = time.perf_counter()
        try:
            (found,) = _processes.measured([self._words(settings)], self.look, seconds=self._limit)
        except (BadInput, EnvironmentProblem):
            if settings == DEFAULT:
                raise
            return None
        if settings == DEFAULT:
            self._limit = max(_LEAST_LIMIT, _PATIENCE * (time.perf_counter() - started))
        return seconds_of(found)

    def block(self, settings: Sequence[SessionSettings], number: int) -> list[float]:
        names = [str(i) for i in range(len(settings))]
        turns = turns_of(names, number)
        jobs = [self._words(settings[int(turn)]) for turn in turns]
        found = _processes.measured(jobs, self.look)
        logs: dict[str, float] = dict.fromkeys(names, 0.0)
        for turn, measured in zip(turns, found, strict=True):
            logs[turn] += math.log(seconds_of(measured)) / 2
        return [math.exp(logs[name]) for name in names]

    def held_out(self, settings: SessionSettings, blocks: int, say: Callable[[str], None]) -> Blocks:
        sides = {PACKAGE: settings, BASELINE: DEFAULT, CONTROL: settings}
        found = Blocks({side: self._words(one) for side, one in sides.items()}, self.look)
        for number in range(blocks):
            say(f"sessions: held-out block {number + 1} of {blocks}")
            found.add()
        return found

    def _words(self, settings: SessionSettings) -> list[str]:
        return words(
            self._folder,
            self._metrics,
            prompt_tokens=self._prompt,
            new_tokens=self._new,
            batch=1,
            inputs=self._inputs,
            threads=None,
            session=settings,
        )


class _Results:
    """Whether settings leave the results of `package` what they are."""

    def __init__(self, package: RunnablePackage, measurable: Measurable) -> None:
        self._package, self._measurable = package, measurable
        self._expected = self._of(DEFAULT)

    def refusal(self, settings: SessionSettings) -> str:
        """Why not; empty where they do, or settings cannot change them."""
        if settings.level is None and not settings.options:
            return ""
        try:
            got = self._of(settings)
        except BadInput as error:
            return error.message
        for name, value in self._expected.items():
            if not np.issubdtype(value.dtype, np.floating):
                if not np.array_equal(value, got[name]):
                    return f"{name} is another one"
            elif not (far := scaled_difference(value, got[name])) <= LOSSLESS:
                return f"{name} is off by {far:.2g} of its spread"
        return ""

    def _of(self, settings: SessionSettings) -> Mapping[str, Any]:
        package = self._package.with_settings(settings)
        if self._measurable.generates:
            side = PackageSide(package)
            size = next(s.shape[-1] for s in side.session.get_outputs() if s.name == "logits")
            tokens = np.random.default_rng(SEED).integers(1, int(size), _TEXT)
            return {"logits": side.logits(tokens)}
        return self._measurable.called(package)
