"""What is left of a model: a package beside its source on text, or on whatever inputs it takes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from graphopt.evaluate._accuracy import EncoderAccuracy, LanguageAccuracy, compare_encoders
from graphopt.evaluate._calls import calls_of_text, other_calls, takes_text
from graphopt.evaluate._corpus import built_in_corpus, read_corpus
from graphopt.evaluate._language import TEXT_GENERATION, measure_language
from graphopt.evaluate._overlap import calibration_texts, refuse_calibration, refuse_overlap
from graphopt.evaluate._sides import side_of
from graphopt.interface import Arrays
from graphopt.package import RunnablePackage
from graphopt.plugins import registry

__all__ = ["Validation", "validate", "warnings_about"]

CALLS = 64
"""Lines of text that an encoder is measured on: seconds of a small one, for intervals that are not narrow."""


@dataclass(frozen=True)
class Validation:
    """What was measured, on what, and what to keep in mind about it."""

    package: str
    reference: str
    data: str
    result: LanguageAccuracy | EncoderAccuracy
    warnings: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON-able data; `kind` is "language" or "encoder"."""
        kind = "language" if isinstance(self.result, LanguageAccuracy) else "encoder"
        return {"kind": kind, **asdict(self)}


def validate(
    package: RunnablePackage,
    reference: str | Path,
    *,
    data: Path | None,
    tokens: int,
    trust_remote_code: bool,
) -> Validation:
    """Measure `package` beside `reference`, a source or another package. See `Package.validate`."""
    against = side_of(reference, package, trust_remote_code=trust_remote_code)
    warnings = warnings_about(reference, data)
    generates = package.manifest.task == TEXT_GENERATION
    on_text = generates or (takes_text(package) and (data is None or data.suffix != ".npz"))
    corpus = (read_corpus(data) if data else built_in_corpus()) if on_text else None
    refuse_calibration(package, data, corpus)
    if corpus is not None:
        warnings += refuse_overlap(corpus, calibration_texts(package, None))
    if corpus is not None and generates:
        measured: LanguageAccuracy | EncoderAccuracy = measure_language(
            package.session(),
            against.logits,
            package.path,
            corpus,
            tokens,
            package.manifest.graphs["model"].states,
        )
        return Validation(str(package.path), str(reference), corpus.name, measured, warnings)
    if corpus is not None:
        texts = itertools.islice(calls_of_text(package, corpus), CALLS)
        calls: Iterator[Arrays] = (call.feeds for call in texts)
        name = corpus.name
    else:
        name, calls = other_calls(package, data)
        warnings = []
    measured = compare_encoders(package.as_source(), against.model, calls)
    return Validation(str(package.path), str(reference), name, measured, warnings)


def warnings_about(reference: str | Path, data: Path | None) -> list[str]:
    """What to keep in mind about text that was measured on."""
    if data is not None or str(reference) in registry.embedded_models():
        return []
    return ["the built-in text is Python source code; give text the model is meant for with --data"]
