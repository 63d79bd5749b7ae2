"""graphopt targets profile, where it measures nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from graphopt.cli._main import run as run_command
from graphopt.machine import load_profile, profile_names, write_profile
from tests.machine._profiles import interval, profile

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command; its exit code, and what it printed."""

    def run(*arguments: str) -> tuple[int, str]:
        code = run_command(["targets", "profile", *arguments])
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return code, said.out

    return run


def test_cited_machines_are_listed(run: Run) -> None:
    code, output = run("--list")
    assert code == 0
    assert all(name in output for name in profile_names())


def test_a_cited_machine_is_shown_with_its_sources(run: Run) -> None:
    code, output = run("--show", "h200")
    assert code == 0
    for source in load_profile("h200").sources.values():
        assert source.title.split()[0] in output
    assert "4,300 (3,600-4,800) GB/s" in output


def test_json_is_what_can_be_read_again(run: Run, tmp_path: Path) -> None:
    code, output = run("--show", "mi300x", "--json", "-")
    assert code == 0
    path = tmp_path / "again.json"
    path.write_text(output)
    assert load_profile(path) == load_profile("mi300x")
    assert json.loads(output)["version"] == 1


def test_noise_is_said_where_it_is_large(run: Run, tmp_path: Path) -> None:
    for noise, disturbed in ((0.02, False), (0.6, True)):
        write_profile(profile(noise=interval(1.0, noise)), tmp_path / "machine.json")
        code, output = run("--show", str(tmp_path / "machine.json"))
        assert code == 0
        assert ("disturbed" in output) is disturbed


def test_names_out_of_files_command_no_terminal(run: Run, tmp_path: Path) -> None:
    write_profile(profile(name="\x1b[2J", title="[red]title"), tmp_path / "machine.json")
    code, output = run("--show", str(tmp_path / "machine.json"))
    assert code == 0
    assert "\x1b" not in output
    assert "[red]title" in output


@pytest.mark.parametrize(
    "arguments", [("cpu", "--list"), ("--list", "--show", "h200"), ("--threads", "0"), ("--minutes", "nan")]
)
def test_what_does_not_go_together_is_refused(run: Run, arguments: tuple[str, ...]) -> None:
    assert run(*arguments)[0] == 2


def test_bad_files_and_names_are_bad_input(run: Run, tmp_path: Path) -> None:
    (tmp_path / "machine.json").write_text("{}")
    assert run("--show", str(tmp_path / "machine.json"))[0] == 2
    assert run("--show", "h20")[0] == 2
    assert run("no-such-target")[0] == 2


def test_what_was_measured_is_written_though_the_cache_cannot_be(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache").write_text("a file")
    monkeypatch.setenv("GRAPHOPT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("graphopt.cli._profile._measured", lambda *_: profile())
    assert run("-o", str(tmp_path / "machine.json"))[0] == 2
    assert load_profile(tmp_path / "machine.json") == profile()
