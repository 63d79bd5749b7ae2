"""What a gate of accuracy rests on: a package, and its baseline, beside a reference on the same data."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np

from graphopt.errors import BadInput
from graphopt.evaluate._calls import Call, calls_of_text, other_calls, takes_text
from graphopt.evaluate._comparable import require_comparable
from graphopt.evaluate._corpus import Window, built_in_corpus, read_corpus
from graphopt.evaluate._encoder_run import ENCODER_METRICS, EncoderRun
from graphopt.evaluate._language import TEXT_GENERATION
from graphopt.evaluate._language_run import LANGUAGE_METRICS, LanguageRun
from graphopt.evaluate._overlap import calibration_texts, refuse_calibration, refuse_overlap
from graphopt.evaluate._samples import AccuracySamples
from graphopt.evaluate._sides import PackageSide, Side, side_of
from graphopt.evaluate._validation import warnings_about
from graphopt.io import digest_of
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
        calibration: Path | None = None,
        part: tuple[int, int] = (0, 1),
    ) -> None:
        _require_measurable(package, metrics)
        generates = package.manifest.task == TEXT_GENERATION
        on_text = generates or (takes_text(package) and (data is None or data.suffix != ".npz"))
        corpus = (built_in_corpus() if data is None else read_corpus(data)) if on_text else None
        self._notes: list[str] = []
        refuse_calibration(package, data, corpus)
        if corpus is not None:
            files = calibration_texts(package, calibration)
            self._notes += [*corpus.notes, *refuse_overlap(corpus, files), *warnings_about(reference, data)]
        against = side_of(reference, package, trust_remote_code=trust_remote_code)
        sides = [PackageSide(package)]
        if baseline is not None:
            sides.append(_same(baseline, against) or PackageSide(baseline))
        for other in (against, *sides[1:]):
            text = "" if corpus is None else corpus.documents[0].text
            require_comparable(sides[0], other, text, generates=generates)
        self._asked, self._is_part = 0, part != (0, 1)
        self._run: LanguageRun | EncoderRun
        if corpus is not None:
            self._name, self._digest = corpus.name, corpus.digest
        if corpus is not None and generates:
            self._run = LanguageRun(sides, against, corpus, metrics, say, part)
        elif corpus is not None:
            self._run = EncoderRun(
                sides, against, calls_of_text(package, corpus), corpus.domains, metrics, say, part
            )
        else:
            self._name, calls = other_calls(package, data)
            self._digest = "" if data is None else digest_of(data)
            named = (Call(_no_text(f"call {i}"), feeds) for i, feeds in enumerate(calls))
            self._run = EncoderRun(sides, against, named, (), metrics, say, part)

    def extend(self, tokens: int) -> None:
        """Measure on so many more tokens, as far as the data has them."""
        self._asked += tokens
        self._run.extend(tokens)

    @property
    def exhausted(self) -> bool:
        """Whether the data has no more tokens."""
        return self._run.exhausted

    def samples(self) -> AccuracySamples:
        """What was measured so far. `BadInput` where that is nothing; a part may have none of it."""
        found, run = tuple(self._run.samples()), self._run
        if not found and not (self._is_part and run.tokens):
            raise BadInput(f"{self._name} is too short to measure on", hint="Give more text with --data.")
        notes = [*self._notes]
        if run.exhausted and 0 < run.tokens < self._asked:
            notes.append(f"{self._name} has {run.tokens} tokens, and {self._asked} were asked for")
        return AccuracySamples(
            found,
            self._name,
            self._digest,
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
    calibration: Path | None = None,
    part: tuple[int, int] = (0, 1),
) -> AccuracySamples:
    """Measure those `metrics` (keys of `METRICS`) of `package` beside `reference`, a source or a package.

    `baseline` is measured against the same reference on the same documents. `data` is a file or folder of
    documents (`read_corpus`; None: the held-out text of an embedded model), of which `tokens` are used. `say`
    is told what goes on. Raises `BadInput` where the metrics are none of such a package's, where reference or
    baseline are of another model, and where there is no text or too much of it is also in what the package
    was calibrated on: an embedded model's calibration text, and that in the file `calibration`.
    `part` (i, n): of the windows, lines or calls that would be measured only the share i, from 0, of n. What
    all parts find, one after the other, is what is found of the whole.
    """
    run = AccuracyRun(
        package,
        reference,
        baseline,
        metrics=metrics,
        data=data,
        trust_remote_code=trust_remote_code,
        say=say,
        calibration=calibration,
        part=part,
    )
    run.extend(tokens)
    return run.samples()


def _require_measurable(package: RunnablePackage, metrics: Collection[str]) -> None:
    """Raise `BadInput` for a metric that is not one of such a package's."""
    task = package.manifest.task
    known = LANGUAGE_METRICS if task == TEXT_GENERATION else ENCODER_METRICS
    for key in metrics:
        if key not in known:
            raise BadInput(
                f"{METRICS[key].label} ({key}) is not measured of {package.path}, which is for {task}",
                hint=f"Of such a package there are {', '.join(sorted(known))}.",
            )


def _no_text(name: str) -> Window:
    return Window(name, "", np.empty(0, np.int64))


def _same(baseline: RunnablePackage, reference: Side) -> PackageSide | None:
    """The reference, if the baseline is that package: it is run once."""
    same = isinstance(reference, PackageSide) and reference.package.path.samefile(baseline.path)
    return reference if same and isinstance(reference, PackageSide) else None
