"""A package and everything that can be done with it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from graphopt.errors import BadInput
from graphopt.evaluate import (
    BenchReport,
    TargetAgreement,
    Validation,
    compare_targets,
    measure_speed,
    tune_session,
    validate,
)
from graphopt.package import RunnablePackage, TunedSession
from graphopt.report import REPORT, Report

__all__ = ["Package"]


class Package(RunnablePackage):
    """A folder that `optimize` or `export_package` wrote. `path` is where, `manifest` its graphopt.json."""

    def report(self) -> Report:
        """What was written about the run that made this package. `BadInput` where that is lost."""
        try:
            return Report.model_validate_json((self.path / REPORT).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError) as error:
            raise BadInput(f"{self.path / REPORT} is missing or damaged: {error}") from error

    def validate(
        self,
        reference: str | Path,
        *,
        data: str | Path | None = None,
        tokens: int = 16384,
        trust_remote_code: bool = False,
    ) -> Validation:
        """How much of `reference`, the source or another package, is left in this one.

        Language models: perplexity of both, KL divergence, top-1 agreement over `tokens` tokens of `data`, a
        text file, or of built-in Python source. Other models: cosine, on the lines of such a text where they
        take text, on `data` as an .npz file of inputs, else on random legal inputs.
        """
        file = Path(data) if data is not None else None
        return validate(self, reference, data=file, tokens=tokens, trust_remote_code=trust_remote_code)

    def compare_targets(
        self, reference: str | Path, targets: Sequence[str], *, data: str | Path | None = None, **options: Any
    ) -> TargetAgreement:
        """This package on each of `targets`, beside `reference`, its source, and beside each other.

        Options as for `graphopt.evaluate.compare_targets`.
        """
        file = Path(data) if data is not None else None
        return compare_targets(self, reference, targets, data=file, **options)

    def tune(self, **options: Any) -> TunedSession:
        """Measure how sessions of this package are best set up on this machine, and keep that in its
        manifest, beside what was found on other machines.

        Options as for `graphopt.evaluate.tune_session`. The package's own lock stays what it is: it says what
        `optimize` wrote.
        """
        tuned = tune_session(self, **options)
        others = (one for one in self.manifest.sessions if one.fingerprint != tuned.fingerprint)
        self.manifest = self.manifest.model_copy(update={"sessions": (*others, tuned)})
        self.manifest.write(self.path)
        return tuned

    def bench(self, against: str | Path | RunnablePackage | None = None, **options: Any) -> BenchReport:
        """Speed of this package, in fresh processes, interleaved with `against` if given.

        Options as for `graphopt.evaluate.bench`.
        """
        other = against.path if isinstance(against, RunnablePackage) else against
        return measure_speed(self.path, other, **options)
