"""What is left of a model: a package beside its source on text, or on whatever inputs it takes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.errors import BadInput
from graphopt.evaluate._accuracy import EncoderAccuracy, LanguageAccuracy, compare_encoders
from graphopt.evaluate._bindings import SEED, Bindings
from graphopt.evaluate._language import TEXT_GENERATION, as_logits, measure_language
from graphopt.evaluate._logits import Logits, session_logits
from graphopt.evaluate._texts import Text, built_in_text, read_text
from graphopt.export import ONNX, resolve_source
from graphopt.families import Case, meeting
from graphopt.interface import Arrays, Model
from graphopt.io import read_json
from graphopt.package import MANIFEST, RunnablePackage
from graphopt.plugins import registry
from graphopt.runtime import Tokenizer, open_session, session_model

if TYPE_CHECKING:
    from graphopt.families import InputDomain

__all__ = ["Validation", "domain_of", "validate"]

CALLS = 64
"""Lines of text that an encoder is measured on: seconds of a small one, for intervals that are not narrow."""
LONGEST = 128
"""Tokens of a line that count: about a paragraph, as encoders are fed."""
_OF_TEXT = {"input_ids", "attention_mask", "token_type_ids"}


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
    if package.manifest.task == TEXT_GENERATION:
        text = read_text(data) if data else built_in_text()
        measured: LanguageAccuracy | EncoderAccuracy = measure_language(
            package.session(),
            _logits(package, reference, trust_remote_code),
            package.path,
            text,
            tokens,
            package.manifest.graphs["model"].states,
        )
        return Validation(str(package.path), str(reference), text.name, measured, _warnings(reference, data))
    name, calls, on_text = _calls(package, data)
    expected = _model(package, reference, trust_remote_code)
    measured = compare_encoders(package.as_source(), expected, calls)
    warnings = _warnings(reference, data) if on_text else []
    return Validation(str(package.path), str(reference), name, measured, warnings)


def domain_of(package: RunnablePackage) -> InputDomain | None:
    """Legal inputs of the model `package` was made from; None where family or configuration are unknown."""
    config = package.path / "config.json"
    if package.manifest.family is None or not config.is_file():
        return None
    return package.family().input_domain(package.interface(), read_json(config))


def _warnings(reference: str | Path, data: Path | None) -> list[str]:
    if data is not None or str(reference) in registry.embedded_models():
        return []
    return ["the built-in text is Python source code; give text the model is meant for with --data"]


def _package(reference: str | Path) -> RunnablePackage | None:
    return RunnablePackage.load(reference) if (Path(reference) / MANIFEST).is_file() else None


def _logits(package: RunnablePackage, reference: str | Path, trust_remote_code: bool) -> Logits:
    other = _package(reference)
    if other is not None:
        return session_logits(other.session(), other.manifest.graphs["model"].states)
    interface = package.interface()
    states = package.family().states(interface) if package.manifest.family is not None else None
    return as_logits(_model(package, reference, trust_remote_code), interface, states)


def _model(package: RunnablePackage, reference: str | Path, trust_remote_code: bool) -> Model:
    other = _package(reference)
    if other is not None:
        return other.as_source()
    source = resolve_source(reference, trust_remote_code=trust_remote_code)
    if source.kind == ONNX:
        return session_model(open_session(source.path), source.name, BadInput)
    return package.family().reference(
        source.path, package.manifest.task, package.interface(), trust_remote_code=trust_remote_code
    )


def _calls(package: RunnablePackage, data: Path | None) -> tuple[str, Iterator[Arrays], bool]:
    """What to run on: its name, the feeds, and whether they are text."""
    interface = package.interface()
    if data is not None and data.suffix == ".npz":
        return data.name, (case.feeds for case in Bindings.parse(data, ()).cases(interface)), False
    takes_text = {spec.name for spec in interface.inputs} <= _OF_TEXT and interface.input(
        "input_ids"
    ) is not None
    if takes_text and (package.path / "tokenizer.json").is_file():
        text = read_text(data) if data else built_in_text()
        return text.name, itertools.islice(_lines(package, text), CALLS), True
    domain = domain_of(package)
    if domain is None:
        raise BadInput(f"legal inputs of {package.path} are unknown", hint="Give some with --data FILE.npz.")
    return "random legal inputs", (c.feeds for c in _unpadded(domain, package)), False


def _unpadded(domain: InputDomain, package: RunnablePackage) -> Iterator[Case]:
    """The legal calls without padding that meet what the package assumes."""
    cases = meeting(package.assumptions(), domain.cases(np.random.default_rng(SEED)))
    return (case for case in cases if case.padding == "none")


def _lines(package: RunnablePackage, text: Text) -> Iterator[Arrays]:
    """Each line of `text` that holds something, as one call, tokens framed as the model expects."""
    tokenizer = Tokenizer(package.path)
    for line in filter(str.strip, text.content.splitlines()):
        ids = np.asarray([tokenizer.framed(line)[:LONGEST]], np.int64)
        known = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        yield {spec.name: known[spec.name] for spec in package.interface().inputs}
