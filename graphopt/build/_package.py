"""A package and everything that can be done with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from graphopt.errors import BadInput
from graphopt.evaluate import BenchReport, Validation, measure_speed, validate
from graphopt.package import RunnablePackage
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

    def bench(self, against: str | Path | RunnablePackage | None = None, **options: Any) -> BenchReport:
        """Speed of this package, in fresh processes, interleaved with `against` if given.

        Options as for `graphopt.evaluate.bench`.
        """
        other = against.path if isinstance(against, RunnablePackage) else against
        return measure_speed(self.path, other, **options)
