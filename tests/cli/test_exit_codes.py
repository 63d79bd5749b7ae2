"""Whatever happens becomes a message on stderr and an exit code; a traceback is only for a bug."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import textwrap

import pytest

from graphopt import BadInput, CheckFailed, EnvironmentProblem, Inconclusive
from graphopt.cli._main import run
from graphopt.plugins import registry


def raising(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Make `graphopt models list` raise `error`."""

    def fail() -> None:
        raise error

    monkeypatch.setattr(registry, "embedded_models", fail)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (CheckFailed("the logits differ"), 1),
        (BadInput("the file is corrupt"), 2),
        (Inconclusive("nothing was compared"), 3),
        (EnvironmentProblem("torch is missing"), 4),
    ],
)
def test_an_expected_failure_is_a_message_without_traceback(
    error: Exception, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raising(monkeypatch, error)

    assert run(["models", "list"]) == code
    said = capsys.readouterr()
    assert said.err == f"error: {error}\n"
    assert said.out == ""


def test_a_hint_follows_the_message(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raising(monkeypatch, BadInput("no such thing", hint="Try another."))
    run(["models", "list"])

    assert capsys.readouterr().err == "error: no such thing\n  Try another.\n"


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), 4, "no space left"),
        (PermissionError(errno.EACCES, "Permission denied", "/root/x"), 4, "/root/x"),
        (MemoryError(), 4, "out of memory"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_what_the_machine_does_to_us_has_no_traceback(
    error: BaseException,
    code: int,
    text: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    raising(monkeypatch, error)

    assert run(["models", "list"]) == code
    said = capsys.readouterr().err
    assert text in said
    assert "Traceback" not in said


def test_a_bug_shows_its_traceback_and_asks_for_a_report(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raising(monkeypatch, ZeroDivisionError("planted"))

    assert run(["models", "list"]) == 5
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert "ZeroDivisionError: planted" in said
    assert "Please report it" in said


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["optmize"], "Did you mean 'optimize'?"),
        (["optimize", "x", "--recpe", "int4"], "Did you mean '--recipe'?"),
        (["optimize"], "Missing argument 'SOURCE'"),
        (["optimize", "x", "--verify", "perhaps"], "'perhaps' is not one of"),
        (["optimize", "x", "--json", "no/such/folder/report.json"], "does not exist"),
        (["passes", "shwo"], "Did you mean 'show'?"),
        (["run", "x", "y", "--threads", "100000"], "100000 is not in the range 1<=x<=1024"),
        (["bench", "x", "--threads", "0"], "0 is not in the range 1<=x<=1024"),
        (["bench", "x", "--price", "nan"], "is not a finite number"),
    ],
)
def test_wrong_usage(arguments: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 2
    assert text in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["optimize", "--help"], ["passes", "list"]])
def test_what_succeeds_returns_zero_and_prints_to_stdout(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 0
    said = capsys.readouterr()
    assert said.out
    assert said.err == ""


def test_a_reader_that_leaves_is_not_an_error() -> None:
    done = subprocess.run(
        f"{sys.executable} -m graphopt passes list | true",
        shell=True,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stderr == ""


TERMINATED = """
    import os, signal
    from pathlib import Path
    from graphopt.plugins import registry
    from graphopt.cli import main
    def work():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            signal.pause()
        finally:
            print("cleaned up")
    registry.embedded_models = work
    main(["models", "list"])
"""


def test_a_terminated_run_cleans_up() -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(TERMINATED)], capture_output=True, text=True, check=False
    )

    assert done.stdout == "cleaned up\n"
    assert done.returncode == 128 + signal.SIGTERM
