"""What gates ask for is measured: facts of the files first, then accuracy, then speed until it is decided."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from graphopt.errors import BadInput
from graphopt.evaluate import (
    TEXT_GENERATION,
    AccuracyRun,
    Generated,
    SpeedTurns,
    census,
    census_differences,
    interface_changes,
    measure_facts,
    measure_heads,
    measure_tasks,
    require_lm_eval,
)
from graphopt.gate._asked import Asked
from graphopt.gate._baseline import Baseline
from graphopt.gate._bounds import Gate
from graphopt.gate._config import GateSettings
from graphopt.gate._looks import MINIMUM_BLOCKS, MOST_BLOCKS
from graphopt.gate._sources import Wanted
from graphopt.gate._stored import beside_stored, changes_since
from graphopt.metrics import Documents, Exact, Sample, units_needed
from graphopt.package import RunnablePackage, Unchanged

__all__ = ["AsPackage", "Measuring", "Say"]

Say = Callable[[str], None]
AsPackage = Callable[[str], Path]
"""Makes a package of a source as it is and says where: what speed and size are compared with where the
baseline is a source."""
PILOT = 4096
"""Tokens from which is told how many are needed: 16 windows of 256, what intervals of documents hold for
(docs/gates.md)."""
_COUNTED = frozenset({"label_accuracy", "task_accuracy"})
"""Metrics of accuracy that are no distance from the reference, so that it may be the baseline as well."""
_ANSWERED = "greedy_agreement"
"""A metric that texts are generated for."""
_COMPARED = frozenset({"census_changes", "interface_changes"})


@dataclass
class Measuring:
    """`package` and its baseline, and what is known of both so far.

    `details` are words for what a metric counts, by its key. `not_run` says why what takes running was left
    out: a fact had decided already.
    """

    package: RunnablePackage
    baseline: Baseline
    reference: str
    gates: tuple[Gate, ...]
    settings: GateSettings
    as_package: AsPackage | None
    unchanged: Unchanged
    say: Say
    answers: bool = False
    trust_remote_code: bool = False
    samples: list[Sample] = field(default_factory=list)
    generated: Sequence[Generated] = ()
    notes: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    data: str = ""
    data_digest: str = ""
    tokens: int = 0
    details: dict[str, str] = field(default_factory=dict)
    not_run: str = ""
    look: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        task = self.package.manifest.task
        self.wanted = Wanted.of((gate.metric for gate in self.gates), task)
        if self.answers and self.wanted.accuracy and task == TEXT_GENERATION:
            self.wanted = replace(self.wanted, accuracy=self.wanted.accuracy | {_ANSWERED})
        self._require_baselines()
        if self.wanted.tasks:
            require_lm_eval()
            if self.settings.tasks is None:
                raise BadInput("task_accuracy needs tasks", hint="Give task files of lm-eval's with --tasks.")

    def _require_baselines(self) -> None:
        """Raise `BadInput` for a relative gate of what this baseline cannot be measured for."""
        relative = [gate for gate in self.gates if gate.relative]
        timed = [gate for gate in relative if gate.metric in self.wanted.speed]
        if timed and self.baseline.result is not None:
            raise BadInput(
                f"{timed[0].text}: speed is measured in turns, and {self.baseline.text} holds only results",
                hint="Give the package itself, or its source, as --baseline.",
            )
        distances = (self.wanted.accuracy | self.wanted.heads) - _COUNTED
        accurate = [gate for gate in relative if gate.metric in distances]
        if accurate and self.reference == self.baseline.text:
            raise BadInput(
                f"{accurate[0].text} compares with the baseline, which accuracy is measured against itself",
                hint="Give the model that both were made from with --reference.",
            )

    def measure(self) -> None:
        """Everything that the gates ask for, what takes seconds first."""
        if self.wanted.facts:
            self._timed("facts", self._facts)
        runs = not self.not_run
        if runs and self.wanted.accuracy:
            self._timed("accuracy", self._accuracy)
        if runs and self.wanted.heads:
            self._timed("heads", self._heads)
        if runs and self.wanted.tasks:
            self._timed("tasks", self._tasks)
        self.samples = list(self._paired(self.samples))
        if runs and self.wanted.speed:
            self._timed("speed", self._speed)

    def _timed(self, name: str, measure: Callable[[], None]) -> None:
        started = time.perf_counter()
        measure()
        self.seconds[name] = time.perf_counter() - started

    def _beside(self) -> RunnablePackage | None:
        """The baseline as a package: a source as it is exported, None for a stored result."""
        if self.baseline.is_source:
            if self.as_package is None:
                raise BadInput(
                    f"{self.baseline.text} is no package, whose speed and size could be compared",
                    hint="`graphopt export SOURCE -o DIR` makes one: give DIR as the baseline.",
                )
            self.say(f"exporting {self.baseline.text}")
            return RunnablePackage.load(self.as_package(self.baseline.text))
        return self.baseline.package

    def _facts(self) -> None:
        self.say("counting nodes and bytes")
        gates = [gate for gate in self.gates if gate.metric in self.wanted.facts]
        compared = any(gate.relative or gate.metric in _COMPARED for gate in gates)
        beside = self._beside() if compared else None
        counted = self.wanted.facts - (_COMPARED if beside is None else frozenset())
        self.samples += measure_facts(self.package, beside, metrics=counted)
        if not compared:
            return
        changes = self._changes(beside)
        self.details = {metric: "; ".join(said) for metric, said in changes.items()}
        for metric in sorted(self.wanted.facts - counted):
            self.samples.append(Sample(metric, Exact(float(len(changes[metric])))))
        found = float(len(changes["interface_changes"]))
        if not all(gate.holds(found) for gate in gates if gate.metric == "interface_changes"):
            self.not_run = "the interface is not the baseline's"

    def _changes(self, beside: RunnablePackage | None) -> dict[str, list[str]]:
        """By metric, how the package's graphs differ from the baseline's, in words."""
        if beside is None:
            assert self.baseline.result is not None
            return changes_since(self.package, self.baseline.result)
        return {
            "interface_changes": interface_changes(self.package, beside),
            "census_changes": census_differences(census(self.package), census(beside)),
        }

    def _accuracy(self) -> None:
        run = AccuracyRun(
            self.package,
            self.reference,
            self._accuracy_baseline(),
            metrics=self.wanted.accuracy,
            data=self.settings.data,
            trust_remote_code=self.trust_remote_code,
            say=self.say,
            calibration=self.settings.calibration,
        )
        pilot = min(PILOT, self.settings.tokens)
        run.extend(pilot)
        needed = min(self._tokens_needed(run.samples().samples), self.settings.tokens)
        if needed > pilot and not run.exhausted:
            run.extend(needed - pilot)
        found = run.samples()
        self.samples += found.samples
        self.generated = found.generations
        self.notes += found.notes
        self.data, self.data_digest, self.tokens = found.data, found.data_digest, found.tokens

    def _tokens_needed(self, samples: Sequence[Sample]) -> int:
        """How much text decides all gates, as far as this much tells (two stages; Stein 1945)."""
        samples = self._paired(samples)
        found = [
            units_needed(q.sample.evidence, q.bound, relative=q.relative, confidence=self.settings.confidence)
            for q in Asked.of(self.gates, samples).questions
            if isinstance(q.sample.evidence, Documents)
        ]
        return max((need.tokens or self.settings.tokens for need in found), default=0)

    def _paired(self, samples: Sequence[Sample]) -> Sequence[Sample]:
        """With what a stored baseline came to."""
        result = self.baseline.result
        return samples if result is None else beside_stored(samples, result, self.baseline.text)

    def _heads(self) -> None:
        found = measure_heads(
            self.package,
            self.reference,
            self._accuracy_baseline(),
            metrics=self.wanted.heads,
            data=self.settings.data,
            trust_remote_code=self.trust_remote_code,
            say=self.say,
        )
        self.samples += found.samples
        self.notes += found.notes
        self.data, self.data_digest = found.data, found.data_digest

    def _tasks(self) -> None:
        assert self.settings.tasks is not None
        found = measure_tasks(
            self.package,
            self.reference,
            self._accuracy_baseline(),
            tasks=self.settings.tasks,
            trust_remote_code=self.trust_remote_code,
            say=self.say,
        )
        self.samples += found.samples
        self.notes += [*found.notes, f"questions of {found.data}: {found.data_digest}"]

    def _accuracy_baseline(self) -> RunnablePackage | None:
        """The baseline where it is measured too, beside what both are compared with."""
        return self.baseline.package if self.reference != self.baseline.text else None

    def _speed(self) -> None:
        settings = self.settings
        beside = any(gate.relative for gate in self.gates if gate.metric in self.wanted.speed)
        turns = SpeedTurns(
            self.package.path,
            other.path if beside and (other := self._beside()) is not None else None,
            metrics=self.wanted.speed,
            prompt_tokens=settings.prompt_tokens,
            new_tokens=settings.new_tokens,
            batch=settings.batch,
            inputs=settings.inputs,
            threads=settings.threads,
            say=self.say,
            unchanged=self.unchanged,
        )
        started = time.monotonic()
        while turns.blocks < MOST_BLOCKS:
            turns.add_block()
            look = turns.blocks, MOST_BLOCKS
            if turns.blocks >= MINIMUM_BLOCKS and not self._undecided(turns, look):
                break
            taken = time.monotonic() - started
            if taken + taken / turns.blocks > settings.max_time:
                look = turns.blocks, turns.blocks
                break
        self.look = look
        self.samples += turns.samples()

    def _undecided(self, turns: SpeedTurns, look: tuple[int, int]) -> bool:
        """Whether more blocks may still decide something about speed."""
        asked = Asked.of(self.gates, [*self.samples, *turns.samples()])
        return bool(asked.open(asked.decided(self.settings, look), self.wanted.speed))
