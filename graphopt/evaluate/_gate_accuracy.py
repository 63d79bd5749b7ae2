"""What a gate of accuracy rests on: a package, and its baseline, beside a reference on the same data."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

from graphopt.errors import BadInput
from graphopt.evaluate._corpus import built_in_corpus, read_corpus
from graphopt.evaluate._language import TEXT_GENERATION
from graphopt.evaluate._language_run import LANGUAGE_METRICS, LanguageRun
from graphopt.evaluate._samples import AccuracySamples
from graphopt.evaluate._sides import PackageSide, Side, side_of
from graphopt.metrics import METRICS
from graphopt.package import RunnablePackage

__all__ = ["AccuracyRun", "measure_accuracy"]


class AccuracyRun:
    """A measurement that can go on: `extend` it, look at its `samples`, and extend it again if they do not
    decide. Arguments as for `measure_accuracy`."""

    def __init__(
        self,
        package: RunnablePackage,
        reference: str | Path,
        baseline: RunnablePackage | None,
        *,
        metrics: Collection[str],
        data: Path | None,
        trust_remote_code: bool,
        say: Callable[[str], None],
    ) -> None:
        _require_measurable(package, metrics)
        against = side_of(reference, package, trust_remote_code=trust_remote_code)
        sides = [PackageSide(package)]
        if baseline is not None:
            sides.append(_same(baseline, against) or PackageSide(baseline))
        self._corpus = built_in_corpus() if data is None else read_corpus(data)
        self._run = LanguageRun(sides, against, self._corpus, metrics, say)
        self._asked = 0

    def extend(self, tokens: int) -> None:
        """Measure on so many more tokens, as far as the data has them."""
        self._asked += tokens
        self._run.extend(tokens)

    @property
    def exhausted(self) -> bool:
        """Whether the data has no more tokens."""
        return self._run.exhausted

    def samples(self) -> AccuracySamples:
        """What was measured so far. `BadInput` where that is nothing."""
        found, run = tuple(self._run.samples()), self._run
        if not run.tokens:
            raise BadInput("the text is too short to measure on: it needs two tokens at least")
        notes = [*self._corpus.notes]
        if run.tokens < self._asked:
            notes.append(f"{self._corpus.name} has {run.tokens} tokens, and {self._asked} were asked for")
        return AccuracySamples(
            found,
            self._corpus.name,
            self._corpus.digest,
            run.tokens,
            tuple(notes),
            tuple(run.generations),
        )


def measure_accuracy(
    package: RunnablePackage,
    reference: str | Path,
    baseline: RunnablePackage | None,
    *,
    metrics: Collection[str],
    data: Path | None,
    tokens: int,
    trust_remote_code: bool,
    say: Callable[[str], None],
) -> AccuracySamples:
    """Measure those `metrics` (keys of `METRICS`) of `package` beside `reference`, a source or a package.

    `baseline` is measured against the same reference on the same documents. `data` is a file or folder of
    documents (`read_corpus`; None: the held-out text of an embedded model), of which `tokens` are used. `say`
    is told what goes on. Raises `BadInput` where the metrics are none of such a package's, where reference or
    baseline are of another model, and where there is no text.
    """
    run = AccuracyRun(
        package,
        reference,
        baseline,
        metrics=metrics,
        data=data,
        trust_remote_code=trust_remote_code,
        say=say,
    )
    run.extend(tokens)
    return run.samples()


def _require_measurable(package: RunnablePackage, metrics: Collection[str]) -> None:
    """Raise `BadInput` for a metric that is not one of such a package's."""
    task = package.manifest.task
    known = LANGUAGE_METRICS if task == TEXT_GENERATION else frozenset()
    for key in metrics:
        if key not in known:
            raise BadInput(
                f"{METRICS[key].label} ({key}) is not measured of {package.path}, which is for {task}",
                hint=f"Of such a package there are {', '.join(sorted(known))}.",
            )


def _same(baseline: RunnablePackage, reference: Side) -> PackageSide | None:
    """The reference, if the baseline is that package: it is run once."""
    same = isinstance(reference, PackageSide) and reference.package.path.samefile(baseline.path)
    return reference if same and isinstance(reference, PackageSide) else None
