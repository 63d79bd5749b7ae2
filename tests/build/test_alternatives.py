"""A package of an .onnx file that is larger, slower or too far off is made with fewer passes."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest

from graphopt import BadInput, Package, optimize
from graphopt.build import _alternatives
from graphopt.evaluate import Beside, CheckedMetric, ClosingCheck, _beside, run_beside
from graphopt.ir import to_proto
from graphopt.metrics import Estimate
from graphopt.pipeline import LEFT_OUT
from graphopt.plugins import load_recipe
from tests.passes._vision import BLOCKS

EXACT = Estimate(1.0, 0.99, 1.01)
SLOW = Beside(Estimate(0.8, 0.79, 0.81), EXACT)
FAST = Beside(Estimate(1.2, 1.1, 1.3), EXACT)
NEAR = Beside(Estimate(0.99, 0.98, 1.0), EXACT)
FAR = ClosingCheck("failed", metrics=(CheckedMetric("case", "y", "cosine_min", 0.5, 0.99),))


def made(folder: Path, out: str, **options: Any) -> Package:
    return optimize(
        str(folder / "net.onnx"),
        str(folder / out),
        **{"recipe": "int8", "verify": "off", "cache": False, "calibration": str(folder / "s.npz")} | options,
    )


def integers(package: Package) -> int:
    nodes = onnx.load(package.path / "model.onnx").graph.node
    return sum(node.op_type == "QuantizeLinear" for node in nodes)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A net so small that scales and zero points take more than integers save."""
    onnx.save(to_proto(BLOCKS["residual"].model()), tmp_path / "net.onnx")
    samples = np.random.default_rng(0).standard_normal((16, 8, 8, 8)).astype(np.float32)
    np.savez(tmp_path / "s.npz", x=samples)
    return tmp_path


def test_what_integers_make_larger_stays_in_floats_and_its_lock_says_so(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = made(folder, "out")
    assert integers(package) == 0
    assert package.manifest.closing_check == "passed"
    (note,) = (note for note in package.report().notes if note.startswith("with quantize-static"))
    assert "bytes, its source" in note
    left = json.loads((package.path / "graphopt.lock").read_text())["decisions"][LEFT_OUT]
    assert left["quantize-static"] == note

    monkeypatch.setattr(_alternatives, "run_beside", None)
    again = optimize(
        str(folder / "net.onnx"),
        str(folder / "b"),
        locked=str(package.path),
        calibration=str(folder / "s.npz"),
    )
    assert (again.path / "model.onnx").read_bytes() == (package.path / "model.onnx").read_bytes()


def test_a_recipe_without_alternatives_is_done_as_it_is(folder: Path) -> None:
    (folder / "mine.toml").write_text('extends = "int8"\nalternatives = []\n')
    assert integers(made(folder, "out", recipe=str(folder / "mine.toml"))) > 0


def test_alternatives_name_steps_of_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('extends = "int8"\nalternatives = [["quantise"]]\n')
    with pytest.raises(BadInput, match="no step is called 'quantise'"):
        load_recipe(str(tmp_path / "mine.toml"))


class Job(SimpleNamespace):
    """A run of the passes a, b and c, of which c compresses nothing."""

    def __init__(self, found: Beside, closing: ClosingCheck, left: tuple[str, ...] = ()) -> None:
        records = [
            SimpleNamespace(step=step, level="compress", applied=int(step != "c" and step not in left))
            for step in "abc"
        ]
        super().__init__(
            found=found,
            closing=closing,
            left=left,
            source=SimpleNamespace(kind="onnx"),
            recipe=SimpleNamespace(alternatives=(("c",), ("a",), ("a", "c"), ("b",))),
            graphs=[
                SimpleNamespace(
                    result=SimpleNamespace(records=records),
                    context=SimpleNamespace(decisions={}),
                    file="model.onnx",
                )
            ],
            options=SimpleNamespace(stop_after=None),
            notes=[],
            clock=SimpleNamespace(say=lambda text: None),
            staging=SimpleNamespace(package=Path("/nowhere")),
            files={},
        )


def tried(found: list[tuple[Beside, ClosingCheck]], monkeypatch: pytest.MonkeyPatch) -> tuple[Any, list[Any]]:
    """What is settled for, and what was left out of each try, whose outcomes are `found`."""
    monkeypatch.setattr(_alternatives, "_beside", lambda job, threads: job.found)
    outcomes, tries = iter(found), []

    def again(job: Any, decisions: Any) -> Any:
        tries.append(tuple(sorted(decisions[LEFT_OUT])))
        return Job(*next(outcomes), left=tries[-1])

    return _alternatives.settled(Job(*next(outcomes)), again), tries  # type: ignore[arg-type]


PASSED = ClosingCheck("passed")


@pytest.mark.parametrize("found", [FAST, NEAR])
def test_what_is_not_slower_beyond_noise_stays(found: Beside, monkeypatch: pytest.MonkeyPatch) -> None:
    job, tries = tried([(found, PASSED)], monkeypatch)
    assert tries == []
    assert job.notes == []


@pytest.mark.parametrize(("found", "closing"), [(SLOW, PASSED), (FAST, FAR)])
def test_the_first_alternative_that_changes_something_and_serves_is_taken(
    found: Beside, closing: ClosingCheck, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, tries = tried([(found, closing), (FAST, PASSED)], monkeypatch)
    assert tries == [("a",)]
    assert job.notes[0].startswith("with a, b ")


@pytest.mark.parametrize(("slow", "said"), [(1, "one thread"), (2, "2 threads")])
def test_a_package_may_be_slower_on_no_number_of_threads(
    slow: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_alternatives, "default_threads", lambda: 2)
    monkeypatch.setattr(
        _alternatives, "_beside", lambda job, threads: SLOW if threads == slow and not job.left else FAST
    )
    job = _alternatives.settled(
        Job(FAST, PASSED),  # type: ignore[arg-type]
        lambda job, decisions: Job(FAST, PASSED, left=tuple(decisions[LEFT_OUT])),
    )
    assert f" times as fast as its source on {said} " in job.notes[0]


def test_at_last_nothing_is_compressed(monkeypatch: pytest.MonkeyPatch) -> None:
    job, tries = tried([(SLOW, PASSED), (FAST, FAR), (SLOW, PASSED), (SLOW, FAR)], monkeypatch)
    assert tries == [("a",), ("b",), ("a", "b", "c")]
    assert [note.split(" the package")[0] for note in job.notes] == ["with a, b", "with b", "with a"]
    assert job.closing.verdict == "failed", "floats are held to the budget, too"


@pytest.mark.parametrize(("factor", "slower"), [(1.0, False), (1.5, True), (0.5, False)])
def test_turns_tell_a_slower_graph_from_one_that_is_not(
    factor: float, slower: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock of its own, on which each call takes a little more or less."""
    rng, now = np.random.default_rng(0), [0.0]
    monkeypatch.setattr(_beside.time, "perf_counter", lambda: now[0])

    class Session:
        def __init__(self, seconds: float) -> None:
            self.seconds = seconds

        def run(self, names: None, feeds: object) -> None:
            now[0] += self.seconds * rng.uniform(0.98, 1.02)

    found = run_beside(lambda: (Session(0.01), {}), lambda: (Session(0.01 * factor), {}), threads=1)
    assert found.slower == slower
    assert found.speed.value == pytest.approx(1 / factor, rel=0.02)
    assert found.control.low <= 1 <= found.control.high
