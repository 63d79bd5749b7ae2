"""A sweep as a whole: which trials are made, which are best, and what the command says."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import tomllib
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from onnx import parser

from graphopt.cli._main import run as graphopt
from graphopt.sweep import Outcome, Spec, Sweep, Task, _sweep, sweep
from graphopt.sweep import _ray as connection
from graphopt.sweep._trial import together

NET = """
<ir_version: 10, opset_import: ["" : 23]>
net (float[2, 4] x) => (float[2, 4] y)
<float[4, 4] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}>
{
  a = MatMul(x, w)
  y = Relu(a)
}
"""
SPEC = """\
source = "net.onnx"
recipe = ["lossless", "fp16"]
objective = "package_bytes"
sampler = "grid"
"""
BLOCKS = {"quantize-weights.block_size": {"choice": [16, 32, 64, 128]}}


class Pretended:
    """An engine that knows what comes of each task: damage grows with the block, size falls."""

    def __init__(self, ray: str, watch: Callable[[Any], None]) -> None:
        self.watch = watch
        self.tasks: list[Task] = []
        self._ready: deque[Outcome] = deque()

    def __enter__(self) -> Pretended:
        type(self).last = self
        return self

    def __exit__(self, *_: object) -> None: ...

    def exported(self, source: str) -> bool:
        return False

    def submit(self, task: Task) -> None:
        self.tasks.append(task)
        steps = tomllib.loads(task.arguments["package"]["steps"])["pass"]
        block = next(int(s["block_size"]) for s in steps if s["name"] == "quantize-weights")
        if task.function.endswith("accuracy"):
            value: dict[str, Any] = {"part": 0, "samples": [["kl_mean", "", None, block / 1000]]}
        elif block == 16 and self.unlucky:
            self._ready.append(Outcome(task, error="out of luck", code=self.unlucky, failures=2))
            return
        else:
            value = {"package_bytes": [1e6 / block, 0, 1e9]}
        self._ready.append(Outcome(task, value, seconds=1.0))

    def next(self) -> Outcome | None:
        self.watch(self)
        return self._ready.popleft() if self._ready else None

    last: Pretended
    unlucky = 5
    """The code of the error of blocks of 16."""


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> type[Pretended]:
    monkeypatch.setattr(_sweep, "Engine", Pretended)
    return Pretended


def asked(**changes: Any) -> Spec:
    said = {"source": "tiny-coder", "recipe": "int8", "objective": ["kl_mean", "package_bytes"]}
    return Spec.model_validate({**said, "budget": "kl_mean=0.1", "options": BLOCKS, "trials": 12, **changes})


def test_the_best_keep_the_budget_and_are_beaten_by_none(pretended: type[Pretended]) -> None:
    found = sweep(asked(sampler="grid"))

    by_block = {row.values["quantize-weights.block_size"]: row for row in found.rows}
    assert sorted(block for block, row in by_block.items() if row.feasible) == [32, 64]
    assert by_block[16].error == "out of luck"
    assert by_block[128].over["kl_mean"] == pytest.approx(0.28)
    assert found.best == [by_block[32].number, by_block[64].number]
    assert found.recipe(found.best[0]).budget.kl_mean == 0.1
    assert sweep(asked(sampler="grid", objective="package_bytes")).best == [by_block[64].number]


def test_trials_that_are_the_same_are_done_once(pretended: type[Pretended]) -> None:
    found = sweep(asked(at_once=12))

    assert len(found.rows) == 12
    blocks = {row.values["quantize-weights.block_size"] for row in found.rows}
    assert len(pretended.last.tasks) == len(blocks) + len(blocks - {16})
    values = [found.rows[number].values for number in found.best]
    assert all(a != b for i, a in enumerate(values) for b in values[:i])


@pytest.mark.parametrize(("code", "tried"), [(5, 1), (4, 1), (2, 0), (1, 0)])
def test_what_failed_by_chance_is_tried_again_by_the_next_run(
    pretended: type[Pretended], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: int, tried: int
) -> None:
    storage = f"sqlite:///{tmp_path / 'sweep.db'}"
    monkeypatch.setattr(pretended, "unlucky", code)
    assert [row.error for row in sweep(asked(sampler="grid"), storage=storage).rows].count(None) == 3

    monkeypatch.setattr(pretended, "unlucky", 0)
    again = sweep(asked(sampler="grid"), storage=storage)
    assert [row.error for row in again.rows].count(None) == 3 + tried
    assert len(again.rows) == 4
    assert len(pretended.last.tasks) == 2 * tried  # a package, and what is measured of it


def test_one_of_a_source_goes_first(pretended: type[Pretended]) -> None:
    begun: list[int] = []

    def watch(found: Sweep, engine: Any) -> None:
        begun.append(sum(task.function.endswith("built") for task in engine.tasks))

    sweep(asked(sampler="grid"), watch=watch)
    assert begun[0] == 1
    assert begun[-1] == 4


def test_a_recipe_is_held_to_its_own_budget_where_the_sweep_says_none(pretended: type[Pretended]) -> None:
    found = sweep(asked(sampler="grid", budget=()))

    assert found.best == []
    assert all(row.over["kl_mean"] > 0 for row in found.rows if row.error is None)


def test_shards_are_put_together_by_document() -> None:
    values = {"a": [1.0, 3.0], "b": [2.0], "c": [6.0, 0.0, 0.0]}
    whole = [["kl_mean", "", "mean", [[name, tokens] for name, tokens in values.items()]]]
    parts = [
        {"part": 0, "samples": [["kl_mean", "", "mean", [["a", [1.0]], ["c", [6.0, 0.0]]]]]},
        {"part": 1, "samples": [["kl_mean", "", "mean", [["a", [3.0]], ["c", [0.0]], ["b", [2.0]]]]]},
    ]

    assert together(parts)["kl_mean"].value == 2.0
    assert together(parts)["kl_mean"].value == together([{"part": 0, "samples": whole}])["kl_mean"].value


def test_of_several_outputs_the_worst_counts_unless_there_is_one_of_all() -> None:
    outputs = [["cosine_min", "y", None, 0.9], ["cosine_min", "z", None, 0.8]]

    assert together([{"part": 0, "samples": outputs}])["cosine_min"].value == 0.8
    assert (
        together([{"part": 0, "samples": [*outputs, ["cosine_min", "", None, 0.85]]}])["cosine_min"].value
        == 0.85
    )


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a small model and a sweep of it, the current one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.onnx").write_bytes(parser.parse_model(NET).SerializeToString())
    (tmp_path / "spec.toml").write_text(SPEC)
    return tmp_path


@pytest.mark.slow
def test_the_command_finds_the_best_and_does_nothing_twice(here: Path) -> None:
    def command(*more: str) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-m", "graphopt", "sweep", "spec.toml", "--storage", "sqlite:///sweep.db"]
        return subprocess.run([*words, *more], capture_output=True, text=True, timeout=600)

    first = command("-o", "found", "--json", "-")
    assert first.returncode == 0, first.stderr
    said = json.loads(first.stdout)
    assert [row["values"]["recipe"] for row in said["trials"]] == ["lossless", "fp16"]
    assert [row["error"] for row in said["trials"]] == [None, None]
    assert "trial 0: package_bytes" in first.stderr

    best = said["recipes"][str(said["best"][0])]
    assert (here / "found" / "best.toml").read_text() == best
    assert graphopt(["optimize", "net.onnx", "-o", "best", "--recipe", "found/best.toml", "-q"]) == 0

    again = command("--ray", "127.0.0.1:1")
    assert again.returncode == 0, again.stderr
    assert "best: trial" in again.stdout
    (here / "sweep.db").unlink()
    assert command("--ray", "127.0.0.1:1").returncode == 0


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["nowhere.toml"], 2, "nowhere.toml cannot be read"),
        (["spec.toml", "-o", "net.onnx/found"], 2, "net.onnx/found cannot be a folder"),
        (["spec.toml", "--ray", "nowhere"], 2, "'nowhere' is no address of a Ray cluster"),
        (["spec.toml", "--ray", "127.0.0.1:1"], 4, "no Ray cluster answers at 127.0.0.1:1"),
        (["spec.toml", "--storage", "sqlite:////no/where.db"], 4, "cannot be opened"),
        (["spec.toml", "--storage", "no/where.journal"], 2, "does not exist"),
    ],
)
def test_what_cannot_be_is_said(
    here: Path, capsys: pytest.CaptureFixture[str], words: list[str], code: int, said: str
) -> None:
    assert graphopt(["sweep", *words]) == code
    found = capsys.readouterr()
    assert said in found.err
    assert found.out == ""
    assert sorted(path.name for path in here.iterdir()) == ["net.onnx", "spec.toml"]


def test_without_ray_or_optuna_the_command_that_installs_them_is_said(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection.importlib.util, "find_spec", lambda name: None)

    assert graphopt(["sweep", "spec.toml"]) == 4
    assert "pip install 'graphopt[tune]'" in capsys.readouterr().err


def test_an_address_that_says_nothing_is_given_up(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        assert graphopt(["sweep", "spec.toml", "--ray", f"127.0.0.1:{silent.getsockname()[1]}"]) == 4
    assert "timed out" in capsys.readouterr().err
