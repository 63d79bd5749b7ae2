"""Text that a package was calibrated on says nothing about the package: it is not measured on."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from graphopt.errors import BadInput
from graphopt.evaluate._corpus import Corpus
from graphopt.evaluate._texts import read_text
from graphopt.package import RunnablePackage
from graphopt.plugins import registry

__all__ = ["CALIBRATION", "calibration_texts", "refuse_overlap", "shared_words"]

CALIBRATION = "calibration.txt"
N = 13
"""Words of an n-gram: as many as GPT-3's decontamination compares at most (Brown et al. 2020, appendix C)."""
SHARED = 0.01
"""Of all words: texts of one kind may have a notice or a line in common, which are few; a document that both
have is more than this of a text that is worth measuring on."""

_WORD = re.compile(r"\w+")


def calibration_texts(package: RunnablePackage, calibration: Path | None) -> list[Path]:
    """Files with text that `package` was calibrated on: the one given, and that beside its source, if it is
    an embedded model or still where it was."""
    source = package.manifest.source
    beside = registry.embedded_models().get(source, Path(source)) / CALIBRATION
    return ([beside] if beside.is_file() else []) + ([] if calibration is None else [calibration])


def refuse_overlap(corpus: Corpus, files: Iterable[Path]) -> list[str]:
    """Raise `BadInput` where more than 1 % of the words of `corpus` are in one of `files` too.

    Returns what to say of fewer.
    """
    notes = []
    words = _words(corpus.text)
    for path in files:
        shared = shared_words(words, _words(read_text(path).content))
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
