"""Golden files fail where a pass does something else than they say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from graphopt import BadInput
from graphopt.testing import Golden, goldens
from tests._cache import ROOT

GOOD = ROOT / "tests" / "golden" / "raise-silu" / "divided.txt"
REFUSED = ROOT / "tests" / "golden" / "raise-silu" / "wrong-addend.txt"


def planted(tmp_path: Path, source: Path, old: str, new: str) -> Golden:
    text = source.read_text()
    assert old in text
    path = tmp_path / "planted.txt"
    path.write_text(text.replace(old, new))
    return Golden.read(path)


def test_the_files_hold_as_they_are() -> None:
    Golden.read(GOOD).check()
    Golden.read(REFUSED).check()


@pytest.mark.parametrize(
    ("source", "old", "new", "said"),
    [
        (GOOD, "{1.0}", "{1.5}", "not rewritten; near misses: ['the addend is 1.5"),
        (GOOD, "Mul (x", "Add (x", "to accept: python -m graphopt.testing"),
        (GOOD, "--- after", "--- refuses", "not refused"),
        (REFUSED, "1.5, not 1", "2.5, not 1", "for another reason"),
        (REFUSED, "--- refuses", "--- after", "not rewritten"),
        (REFUSED, "--- refuses\nthe addend is 1.5, not 1", "--- unmatched", "and yet the pass says"),
    ],
)
def test_another_behaviour_fails(tmp_path: Path, source: Path, old: str, new: str, said: str) -> None:
    golden = planted(tmp_path, source, old, new)

    with pytest.raises(AssertionError) as failure:
        golden.check()
    assert said in str(failure.value)


def test_other_numbers_are_differences() -> None:
    golden = Golden.read(GOOD)
    wrong = golden.before.replace("{1.0}", "{1.25}")
    ran = golden.run()

    other = Golden(golden.path, golden.header, wrong, golden.after)

    assert golden.differences(ran.model, ran.result) == {}
    assert list(other.differences(ran.model, ran.result)) == ["y in B=2,S=3", "y in B=1,S=5"]


@pytest.mark.parametrize(("old", "new"), [("--- before", "--- befor"), ("pass: ", "passes: ")])
def test_other_files_are_bad_input(tmp_path: Path, old: str, new: str) -> None:
    with pytest.raises(BadInput, match=r"planted\.txt has no"):
        planted(tmp_path, GOOD, old, new)


@pytest.mark.parametrize(
    ("old", "new"),
    [("the addend is 1.5, not 1", ""), ("--- refuses", "--- unmatched")],
    ids=["a refusal without a reason", "a reason where nothing is refused"],
)
def test_a_refusal_says_why_and_nothing_else_does(tmp_path: Path, old: str, new: str) -> None:
    with pytest.raises(BadInput, match="is followed by"):
        planted(tmp_path, REFUSED, old, new)


def test_an_empty_folder_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no golden file"):
        goldens(tmp_path)


def test_accepting_writes_what_the_pass_does(tmp_path: Path) -> None:
    golden = planted(tmp_path, GOOD, "Mul (x", "Add (x")

    done = subprocess.run(
        [sys.executable, "-m", "graphopt.testing", golden.path], check=True, capture_output=True, text=True
    )

    assert done.stdout.strip().endswith("planted: applied 1, equal")
    assert golden.path.read_text() == GOOD.read_text()
