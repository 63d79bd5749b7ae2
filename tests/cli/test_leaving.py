"""Commands whose reader or folder has gone."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from graphopt.cli._console import console
from graphopt.cli._main import run


def test_who_reads_no_more_is_no_failed_check(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def gone(_: str) -> int:
        raise BrokenPipeError

    monkeypatch.setattr(sys.stdout, "write", gone)
    with pytest.raises(BrokenPipeError):
        console().print("read by nobody")


def test_nobody_has_to_listen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    assert run(["plan", "llama-3.2-1b", "--machine", "h200", "--recipe", "lossless"]) == 0


def test_a_folder_that_is_gone_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert run(["plan", "llama-3.2-1b", "--machine", "h200", "--json", "plan.json"]) == 2
    assert "the current folder does not exist" in capsys.readouterr().err
