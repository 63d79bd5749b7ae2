"""The cache between real processes: killed ones, two at once, and one with an edited plugin."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import onnx
import pytest
from onnx import parser

from benchmarks.kill import differences
from graphopt.cli._main import run
from tests.cache.test_continue import TEXT

GRAPHOPT = [sys.executable, "-m", "graphopt"]
PLUGIN = """
from graphopt.pipeline import Contract, Level, Pass
from graphopt.plugins import Pack

class Nothing(Pass):
    "Does nothing."
    name = "nothing"
    level = Level.IMPROVE
    contract = Contract.exact()
    def edits(self, graph, context):
        context.note("SAID")
        return
        yield

PACK = Pack(passes=(Nothing,))
"""


def start(place: Path, *arguments: str, path: Path | None = None) -> subprocess.Popen[bytes]:
    place.mkdir(exist_ok=True)
    environment = os.environ | ({"PYTHONPATH": str(path)} if path else {})
    with (place / "said").open("ab") as said:
        return subprocess.Popen([*GRAPHOPT, *arguments], cwd=place, env=environment, stdout=said, stderr=said)


def when(place: Path, text: str, process: subprocess.Popen[bytes]) -> None:
    """Wait until the process has said something that contains `text`."""
    while process.poll() is None and text not in (place / "said").read_text():
        time.sleep(0.02)


@pytest.mark.long
def test_a_killed_run_continues(tmp_path: Path) -> None:
    command = ["optimize", "tiny-coder", "-o", "out", "--recipe", "int4-fast", "--no-validate"]
    whole = tmp_path / "whole"
    assert start(whole, *command, "--no-cache").wait() == 0
    place = tmp_path / "killed"
    for phase, delay in (("tracing", 1.0), ("optimizing", 1.5), ("compiling", 0.0)):
        process = start(place, *command)
        when(place, phase, process)
        time.sleep(delay)
        process.kill()
        process.wait()
        (place / "said").write_text("")
    report = place / "out" / "report.json"
    assert not report.exists()
    assert start(place, *command).wait() == 0, (place / "said").read_text()

    assert differences(whole, place) == []
    made = json.loads(report.read_text())
    assert made["export_cached"]
    assert all(step["cached"] for step in made["passes"])


def test_two_runs_at_once_on_one_cache(tmp_path: Path, own_cache: Path) -> None:
    onnx.save(parser.parse_model(TEXT), tmp_path / "net.onnx")
    command = [
        "optimize",
        str(tmp_path / "net.onnx"),
        "-o",
        "out",
        "--recipe",
        "lossless",
        "--dim",
        "batch=2",
    ]
    assert start(tmp_path / "whole", *command, "--no-cache").wait() == 0
    for _ in range(2):
        places = [tmp_path / "a", tmp_path / "b"]
        both = [start(place, *command, "--force") for place in places]
        assert [process.wait() for process in both] == [0, 0]
        for place in places:
            assert differences(tmp_path / "whole", place) == []

    assert not list(own_cache.glob(".partial-*"))
    assert len(list(own_cache.iterdir())) == 2


def test_an_edited_plugin_runs_again(tmp_path: Path) -> None:
    onnx.save(parser.parse_model(TEXT), tmp_path / "net.onnx")
    (tmp_path / "r.toml").write_text('[[pass]]\nname = "cse"\n[[pass]]\nname = "nothing"\n')
    site = tmp_path / "site"
    info = site / "some_plugin-0.1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: some-plugin\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text("[graphopt.passes]\nsome = some_plugin:PACK\n")

    def made(said: str) -> tuple[list[bool], list[str]]:
        (site / "some_plugin.py").write_text(PLUGIN.replace("SAID", said))
        arguments = ["optimize", "net.onnx", "-o", "out", "--recipe", "r.toml", "--dim", "batch=2", "--force"]
        assert start(tmp_path, *arguments, path=site).wait() == 0, (tmp_path / "said").read_text()
        report = json.loads((tmp_path / "out" / "report.json").read_text())
        return [step["cached"] for step in report["passes"]], report["notes"]

    assert made("one") == ([False, False], ["one"])
    assert made("one") == ([True, True], ["one"])
    assert made("two") == ([False, False], ["two"])


def test_the_cache_is_listed_and_cleared(
    tmp_path: Path, own_cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    onnx.save(parser.parse_model(TEXT), tmp_path / "net.onnx")
    source = str(tmp_path / "net.onnx")
    out = str(tmp_path / "out")
    assert run(["optimize", source, "-o", out, "--recipe", "lossless", "--dim", "batch=2"]) == 0
    capsys.readouterr()

    def said(*arguments: str) -> str:
        assert run(["cache", *arguments]) == 0
        return capsys.readouterr().out

    listed = json.loads(said("list", "--json", "-"))
    assert [entry["source"] for entry in listed["entries"]] == [source, source]
    assert {entry["step"] for entry in listed["entries"]} > {"export"}
    assert listed["bytes"] == sum(entry["bytes"] for entry in listed["entries"]) > 0
    assert "2 entries" in said("list")
    assert json.loads(said("clear", "--json", "-"))["removed"] == 2
    assert "0 entries" in said("list")
    assert list(own_cache.iterdir()) == []
