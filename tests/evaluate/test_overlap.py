"""Text that a package was calibrated on is refused."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from graphopt import BadInput
from graphopt.evaluate._corpus import built_in_corpus, one_text, read_corpus
from graphopt.evaluate._overlap import (
    N,
    calibration_texts,
    refuse_calibration,
    refuse_overlap,
    shared_words,
)
from graphopt.evaluate._texts import Text
from graphopt.package import CalibratedOn

WORDS = [f"word{i}" for i in range(4000)]


def package(source: str, calibration: CalibratedOn | None = None) -> Any:
    return SimpleNamespace(path="p", manifest=SimpleNamespace(source=source, calibration=calibration))


def test_words_in_a_row_are_counted_once_each() -> None:
    others = ["x", *WORDS[100 : 100 + N + 5], "y", *WORDS[300 : 300 + N], "z", *WORDS[500 : 500 + N - 1]]

    assert shared_words(WORDS, others) == (N + 5) + N
    assert shared_words(WORDS, ["x"]) == shared_words([], WORDS) == 0


def test_the_held_out_text_of_tiny_coder_passes_and_its_calibration_text_does_not(tiny_coder: Path) -> None:
    files = calibration_texts(package("tiny-coder"), None)

    assert files == [tiny_coder / "calibration.txt"]
    assert calibration_texts(package(str(tiny_coder)), None) == files
    assert refuse_overlap(built_in_corpus(), files) == []
    with pytest.raises(BadInput, match=r"calibration\.txt is not held out"):
        refuse_overlap(read_corpus(tiny_coder / "calibration.txt"), files)


def test_one_document_of_many_is_enough(tmp_path: Path) -> None:
    (tmp_path / "c.txt").write_text(" ".join(WORDS[200:280]))

    with pytest.raises(BadInput, match="80 of its 4000 words"):
        refuse_overlap(one_text(Text("t", " ".join(WORDS))), [tmp_path / "c.txt"])


def test_a_line_in_common_is_said_and_no_more(tmp_path: Path) -> None:
    (tmp_path / "c.txt").write_text("Other, " + ", ".join(WORDS[200:220]).upper())

    notes = refuse_overlap(one_text(Text("t", " ".join(WORDS))), [tmp_path / "c.txt"])

    assert notes == ["20 of 4000 words of t are in c.txt too"]


def test_a_file_that_is_given_is_compared_with_as_well(tmp_path: Path) -> None:
    assert calibration_texts(package("elsewhere"), tmp_path / "c.txt") == [tmp_path / "c.txt"]
    assert calibration_texts(package("elsewhere"), None) == []


def test_what_a_package_says_it_was_calibrated_on_counts(tmp_path: Path, tiny_coder: Path) -> None:
    text = tmp_path / "mine.txt"
    text.write_text(" ".join(WORDS))
    corpus = read_corpus(text)
    mine = package("elsewhere", CalibratedOn(name="mine.txt", content=corpus.digest, file=str(text)))
    own = package("elsewhere", CalibratedOn(name="calibration.txt", content="sha256:0"))

    assert calibration_texts(mine, None) == [text]
    assert calibration_texts(own, None) == [tiny_coder / "calibration.txt"]
    with pytest.raises(BadInput, match=r"p was calibrated on mine\.txt"):
        refuse_calibration(mine, text, corpus)
    refuse_calibration(own, text, corpus)
    refuse_calibration(package("elsewhere"), text, corpus)
    text.unlink()
    assert calibration_texts(mine, None) == []
