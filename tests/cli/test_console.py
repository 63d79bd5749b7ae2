"""What commands write for machines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from graphopt.cli._console import working, write_json


def test_numbers_that_are_not_finite_are_strings(tmp_path: Path) -> None:
    write_json(
        str(tmp_path / "r.json"), {"a": [float("inf"), (float("-inf"), 1.5)], "b": {"c": float("nan")}}
    )

    assert json.loads((tmp_path / "r.json").read_text()) == {
        "a": ["Infinity", ["-Infinity", 1.5]],
        "b": {"c": "NaN"},
    }


def test_json_may_go_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    write_json("-", {"a": 1})
    write_json(None, {"a": 2})

    assert json.loads(capsys.readouterr().out) == {"a": 1}


def test_progress_is_a_line_for_each_phase_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    with working(quiet=False) as say:
        for text in ("exporting", "optimizing: cse (1 of 2)", "optimizing: dead-code (2 of 2)"):
            say(text)
    said = capsys.readouterr()

    assert said.err == "exporting …\noptimizing …\n"
    assert said.out == ""


def test_quiet_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with working(quiet=True) as say:
        say("exporting")

    assert capsys.readouterr() == ("", "")
