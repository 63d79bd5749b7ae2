"""One trial: the recipe with only some of its edits, made a package and judged."""

from __future__ import annotations

import os
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Container
from dataclasses import dataclass, replace
from pathlib import Path

from graphopt.bisect._search import Verdict
from graphopt.build import Clock, FileDigests, Job, write_documents
from graphopt.errors import BadInput, CheckFailed
from graphopt.evaluate import Bindings
from graphopt.export import Exported, Source
from graphopt.families import InputDomain
from graphopt.package import staged
from graphopt.pipeline import EditRecord, RunHooks
from graphopt.recipes import OptimizeOptions, Recipe
from graphopt.targets import Target
from graphopt.verify import EditVerifier

__all__ = ["SKIP", "Choice", "Except", "Only", "Trial", "Trier"]

SKIP = 125
"""Exit code by which a check says that it cannot judge, as for `git bisect run`."""
_ABORT = 128  # from here on shells tell of signals, as `git bisect run` has it


class Choice(ABC):
    """Which edits a trial makes, told by their identities."""

    stop_after: str | None = None

    @abstractmethod
    def __contains__(self, identity: object) -> bool: ...

    @abstractmethod
    def key(self) -> tuple[object, ...]:
        """Equal for equal choices, from run to run."""


@dataclass(frozen=True)
class Only(Choice):
    """These edits and no others."""

    identities: frozenset[str] = frozenset()

    def __contains__(self, identity: object) -> bool:
        return identity in self.identities

    def key(self) -> tuple[object, ...]:
        return ("only", sorted(self.identities))

    def __str__(self) -> str:
        return f"{len(self.identities)} edits" if self.identities else "no edit at all"


@dataclass(frozen=True)
class Except(Choice):
    """All edits but these, up to and with `stop_after`."""

    identities: frozenset[str] = frozenset()
    stop_after: str | None = None

    def __contains__(self, identity: object) -> bool:
        return identity not in self.identities

    def key(self) -> tuple[object, ...]:
        return ("except", sorted(self.identities), self.stop_after)

    def __str__(self) -> str:
        return f"all but {len(self.identities)} edits" if self.identities else "the whole recipe"


@dataclass(frozen=True)
class Trial:
    """What a trial came to: the verdict, and the edits that were proposed, in order, as (step, record)."""

    verdict: Verdict
    edits: tuple[tuple[str, EditRecord], ...]

    @property
    def applied(self) -> list[tuple[str, EditRecord]]:
        """The edits in force."""
        return [(step, record) for step, record in self.edits if record.outcome == "applied"]

    @property
    def failed(self) -> list[tuple[str, EditRecord]]:
        """The edits that a verifier found not to keep what their passes promise."""
        return [(step, record) for step, record in self.edits if record.verdict == "failed"]


@dataclass
class Trier:
    """Makes and judges packages of one source in `folder`, by `check` or by comparison with the source."""

    source: Source
    exported: Exported
    target: Target
    recipe: Recipe
    folder: Path
    check: str | None
    bindings: Bindings
    options: OptimizeOptions

    def __call__(
        self,
        choice: Choice,
        *,
        verifier: EditVerifier | None = None,
        verified: Container[str] | None = None,
    ) -> Trial:
        """Try the edits of `choice`. A graph that a pass leaves broken is bad.

        `verifier` checks those in `verified`; what it finds goes below `folder`.
        """
        exported = replace(self.exported, model=self.exported.model.clone())
        place = self.folder / "package"
        with FileDigests() as digests, staged(place, force=True, source=self.source.path) as staging:
            clock = Clock(lambda text: None)
            options = replace(
                self.options, verify="structure", stop_after=choice.stop_after, validate=self.check is None
            )
            job = Job(
                self.source,
                [exported],
                self.target,
                self.recipe,
                options,
                self.bindings,
                place,
                staging,
                clock,
                digests,
            )
            try:
                job.transform(RunHooks(verifier, allow=choice, verified=verified))
                job.compile()
            except (CheckFailed, BadInput):
                return Trial("bad", job.edits())
            if self.check is None:
                job.compare()
            write_documents(job)
        if self.check is not None:
            return Trial(self._judged(place), job.edits())
        if job.closing.verdict == "inconclusive":
            raise BadInput(
                f"no result can be judged: {job.closing.reason}",
                hint="Give --check, or say what legal inputs are with --inputs and --dim.",
            )
        return Trial("good" if job.closing.verdict == "passed" else "bad", job.edits())

    def domain(self) -> InputDomain | None:
        """What legal inputs are, if the source's family says so."""
        exported = self.exported
        if exported.family is None or exported.config is None:
            return None
        return exported.family.input_domain(exported.interface, exported.config)

    def reproducers(self) -> Path:
        """Where what a verifier finds is put."""
        return self.folder / "package.mismatch"

    def _judged(self, package: Path) -> Verdict:
        environment = os.environ | {"GRAPHOPT_PACKAGE": str(package)}
        done = subprocess.run(str(self.check), shell=True, env=environment, check=False)
        if done.returncode < 0 or done.returncode >= _ABORT:
            raise BadInput(f"--check ended with {done.returncode}: only 0 to 127 are verdicts")
        if done.returncode == SKIP:
            return "skip"
        return "bad" if done.returncode else "good"
