"""Text that a package was calibrated on says nothing about the package: it is not measured on."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from graphopt.errors import BadInput
from graphopt.evaluate._corpus import Corpus, read_corpus
from graphopt.io import digest_of
from graphopt.package import RunnablePackage
from graphopt.plugins import registry

__all__ = ["CALIBRATION", "calibration_texts", "refuse_calibration", "refuse_overlap", "shared_words"]

CALIBRATION = "calibration.txt"
N = 13
"""Words of an n-gram: as many as GPT-3's decontamination compares at most (Brown et al. 2020, appendix C)."""
SHARED = 0.01
"""Of all words: texts of one kind may have a notice or a line in common, which are few; a document that both
have is more than this of a text that is worth measuring on."""

_WORD = re.compile(r"\w+")


def calibration_texts(package: RunnablePackage, calibration: Path | None) -> list[Path]:
    """Files with text that `package` was calibrated on: the one given, those its manifest knows of, and that
    beside its source, if it is an embedded model or still where it was."""
    embedded = registry.embedded_models()
    source, known = package.manifest.source, package.manifest.calibration
    found = [embedded.get(source, Path(source)) / CALIBRATION]
    if known is not None:
        places = [Path(known.file)] if known.file else [folder / known.name for folder in embedded.values()]
        found += [path for path in places if path.suffix != ".npz"]
    texts = [path for path in dict.fromkeys(found) if path.exists()]
    return texts + ([] if calibration is None else [calibration])


def refuse_calibration(package: RunnablePackage, data: Path | None, corpus: Corpus | None) -> None:
    """Raise `BadInput` where `data`, or its `corpus`, is what `package` was calibrated on."""
    known = package.manifest.calibration
    if known is None or not known.content:
        return
    is_file = data is not None and data.is_file()
    content = corpus.digest if corpus is not None else digest_of(data) if data and is_file else ""
    if content == known.content:
        raise BadInput(
            f"{package.path} was calibrated on {known.name}: it says nothing about the package",
            hint="Measure on other data with --data.",
        )


def refuse_overlap(corpus: Corpus, files: Iterable[Path]) -> list[str]:
    """Raise `BadInput` where more than 1 % of the words of `corpus` are in one of `files` too.

    Returns what to say of fewer.
    """
    notes = []
    words = _words(corpus.text)
    for path in files:
        shared = shared_words(words, _words(read_corpus(path).text))
        if shared > SHARED * len(words):
            raise BadInput(
                f"{corpus.name} is not held out: {shared} of its {len(words)} words stand in {path} too, "
                f"which the package was calibrated on, {N} or more in a row",
                hint="Measure on other text with --data.",
            )
        if shared:
            notes.append(f"{shared} of {len(words)} words of {corpus.name} are in {path.name} too")
    return notes


def shared_words(words: list[str], others: list[str]) -> int:
    """How many of `words` are part of 13 in a row that `others` has too."""
    known = {tuple(others[i : i + N]) for i in range(len(others) - N + 1)}
    covered, end = 0, 0
    for i in range(len(words) - N + 1):
        if tuple(words[i : i + N]) in known:
            covered += i + N - max(i, end)
            end = i + N
    return covered


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())
