"""Session settings: found by racing, taken only where they are shown to be faster, kept for one machine."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import parser

from graphopt import Package, optimize
from graphopt.cli._main import run
from graphopt.evaluate import Measurement
from graphopt.evaluate._blocks import BASELINE, CONTROL, PACKAGE
from graphopt.evaluate._measurable import Measurable
from graphopt.evaluate._session_race import DEFAULT, SessionRace
from graphopt.evaluate._session_tuning import _held, _Results, seconds_of
from graphopt.package import RunnablePackage, TunedSession
from graphopt.runtime import SessionSettings, default_threads, provider_options, session_choices
from graphopt.targets import Target, described

CHOICES = {"threads": [1, 4], "spinning": [False], "arena": [False], "level": ["basic"]}

SLOWER = {"spinning_False": 1.1, "arena_False": 1.1}


@pytest.fixture(autouse=True)
def warm_workers() -> None:
    """Real ones."""


class Machine:
    """A machine on which settings take so many times as long as the default; and it drifts, and is noisy."""

    def __init__(self, noise: float = 0.01, **factors: float) -> None:
        self._rng, self._noise, self._factors = np.random.default_rng(0), noise, factors
        self._now = 1.0
        self.processes = 0

    def alone(self, settings: SessionSettings) -> float | None:
        self.processes += 1
        self._now *= 1.001
        factor = self._now * float(np.exp(self._rng.normal(0, self._noise)))
        for name, value in settings.told().items():
            factor *= self._factors.get(f"{name}_{value}", 1.0)
        return factor if factor < 50 else None

    def block(self, settings: Sequence[SessionSettings], number: int) -> list[float]:
        there = [self.alone(one) for one in settings]
        back = [self.alone(one) for one in reversed(settings)][::-1]
        assert None not in there, "what fails is not measured again"
        return [float(np.sqrt((a or 0) * (b or 0))) for a, b in zip(there, back, strict=True)]


def test_the_best_values_are_put_together() -> None:
    machine = Machine(threads_1=0.8, threads_4=1.1, spinning_False=0.9, arena_False=1.05, level_basic=1.2)
    race = SessionRace(CHOICES, machine)

    assert race.winner() == SessionSettings(threads=1, spinning=False)
    best, *others = race.tried()
    assert best.settings == SessionSettings(threads=1, spinning=False)
    assert best.speedup == pytest.approx(1 / 0.72, rel=0.02)
    assert best.out == ""
    assert all(one.out for one in others)


def test_the_worse_half_is_given_up_in_every_round() -> None:
    machine = Machine(threads_1=0.8, spinning_False=0.9, arena_False=0.95, level_basic=0.99)
    race = SessionRace(CHOICES, machine)
    race.winner()

    blocks = sorted({one.blocks for one in race.tried()})
    assert len(blocks) > 2, "some are measured longer than others"
    assert race.tried()[0].blocks == max(blocks)
    assert np.median([one.blocks for one in race.tried()]) <= max(blocks) / 2


def test_hopeless_ones_are_measured_once() -> None:
    race = SessionRace(CHOICES, Machine(threads_4=60.0, level_basic=2.0, threads_1=0.8, **SLOWER))

    assert race.winner() == SessionSettings(threads=1)
    out = {one.settings: (one.blocks, one.out) for one in race.tried()}
    assert out[SessionSettings(threads=4)] == (1, "failed, or took too long")
    assert out[SessionSettings(level="basic")] == (1, "far slower")


def test_where_nothing_is_faster_the_default_wins() -> None:
    race = SessionRace(
        CHOICES, Machine(threads_1=1.1, threads_4=1.1, spinning_False=1.1, arena_False=1.1, level_basic=1.1)
    )

    assert race.winner() == DEFAULT


def test_what_changes_results_does_not_take_part() -> None:
    race = SessionRace(CHOICES, Machine(level_basic=0.5), refuse=lambda one: "wrong" if one.level else "")

    assert race.winner().level is None


def measurement(seconds: float) -> Measurement:
    return Measurement((1.0,), (seconds / 2,), ((seconds / 4, seconds / 4),), 8, 0, 0)


def held(speedup: float, noise: float) -> TunedSession:
    rng = np.random.default_rng(0)

    def blocks(seconds: float) -> list[list[Measurement]]:
        return [
            [measurement(seconds * float(np.exp(rng.normal(0, noise)))) for _ in range(2)] for _ in range(8)
        ]

    found = {PACKAGE: blocks(1.0), BASELINE: blocks(speedup), CONTROL: blocks(1.0)}
    tuned = TunedSession(fingerprint={"cores": "2"})
    return _held(tuned, SessionSettings(threads=1), SimpleNamespace(found=found, blocks=8))  # type: ignore[arg-type]


def test_a_winner_is_taken_where_it_is_faster_beyond_chance() -> None:
    found = held(1.1, 0.01)

    assert found.settings == SessionSettings(threads=1)
    assert 1 < found.low < found.speedup < found.high
    assert found.speedup == pytest.approx(1.1, rel=0.02)
    assert found.control == pytest.approx(1, abs=0.02)
    assert found.blocks == 8


@pytest.mark.parametrize(("speedup", "noise"), [(1.0, 0.01), (1.02, 0.1), (0.9, 0.01)])
def test_else_the_default_stays(speedup: float, noise: float) -> None:
    found = held(speedup, noise)

    assert found.settings == DEFAULT
    assert (found.speedup, found.low, found.high) == (1, 1, 1)


def test_seconds_are_of_the_whole_text() -> None:
    assert seconds_of(measurement(4.0)) == 4.0
    calls = Measurement((1.0,), (9.0,), ((1.0, 3.0), (2.0,)), 0, 0, 0)
    assert seconds_of(calls) == 2.0


@pytest.mark.parametrize(
    ("threads", "allowed", "expected"), [(1, 1, []), (2, 2, [1]), (2, 4, [1, 4]), (8, 16, [2, 4, 7, 16])]
)
def test_thread_counts_that_are_tried(threads: int, allowed: int, expected: list[int]) -> None:
    assert session_choices(threads, allowed)["threads"] == expected


@pytest.fixture
def net(tmp_path: Path) -> Package:
    text = """
        <ir_version: 10, opset_import: ["" : 23]>
        net (float[8, 4] x, float[4, 4] w) => (float[8, 4] y) { a = MatMul(x, w)  y = Relu(a) }
    """
    onnx.save(parser.parse_model(text), tmp_path / "net.onnx")
    return optimize(tmp_path / "net.onnx", tmp_path / "net", recipe="lossless")


def kept(package: Package, settings: SessionSettings, **fingerprint: str) -> Package:
    """`package` as if it had been tuned on this machine, or on one that differs in `fingerprint`."""
    tuned = TunedSession(settings=settings, fingerprint=package.target().fingerprint() | fingerprint)
    manifest = package.manifest.model_copy(update={"sessions": (tuned,)})
    manifest.write(package.path)
    return Package.load(package.path)


def test_sessions_are_set_up_as_was_found(net: Package) -> None:
    settings = SessionSettings(threads=1, spinning=False, arena=False, patterns=True, level="basic")
    options = kept(net, settings).session().get_session_options()

    import onnxruntime as ort

    assert options.intra_op_num_threads == 1
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert (options.enable_cpu_mem_arena, options.enable_mem_pattern) == (False, True)
    assert options.graph_optimization_level == ort.GraphOptimizationLevel.ORT_ENABLE_BASIC


def test_threads_that_are_asked_for_go_first(net: Package) -> None:
    session = kept(net, SessionSettings(threads=1)).session(threads=2)

    assert session.get_session_options().intra_op_num_threads == 2


def test_options_of_a_provider_are_tried_and_told(tmp_path: Path) -> None:
    file = tmp_path / "chip.toml"
    file.write_text(
        'title = "A chip"\nprovider = "ChipProvider"\nlast_run = "never"\n'
        '[options]\nmode = "default"\ncache = "off"\n[tune]\nmode = ["burst", "saver"]\n'
    )
    target = described(file)()
    assert target.session_choices()["options"] == [(("mode", "burst"),), (("mode", "saver"),)]

    machine = Machine(**{"options_(('mode', 'burst'),)": 0.8, "threads_1": 0.9})
    won = SessionRace({"threads": [1], "options": target.session_choices()["options"]}, machine).winner()
    assert won == SessionSettings(threads=1, options=(("mode", "burst"),))
    assert str(won) == "1 thread, mode=burst"
    with won.in_force():
        assert provider_options(target.description.options) == {"mode": "burst", "cache": "off"}
    assert provider_options(target.description.options) == {"mode": "default", "cache": "off"}


@pytest.mark.parametrize("other", [{"cores": "96"}, {"onnxruntime": "1.0"}, {"processor": "another"}])
def test_another_machine_has_the_default(net: Package, other: dict[str, str]) -> None:
    package = kept(net, SessionSettings(threads=64, level="basic"), **other)

    assert package.settings() == DEFAULT
    assert package.session().get_session_options().intra_op_num_threads == default_threads()


def test_a_level_that_changes_results_is_refused(net: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    results = _Results(net, Measurable(net.path))

    assert results.refusal(SessionSettings(level="basic")) == ""
    monkeypatch.setattr(results, "_expected", {k: v + 0.1 for k, v in results._expected.items()})
    assert "is off by" in results.refusal(SessionSettings(level="basic"))


def test_it_is_kept_in_the_package(net: Package, capsys: pytest.CaptureFixture[str]) -> None:
    """Really measured, in a few processes; nothing is said of which is faster."""
    lock = (net.path / "graphopt.lock").read_bytes()
    first = net.tune(choices={"spinning": [False]}, new_tokens=2, blocks=2)
    again = net.tune(choices={}, new_tokens=2, blocks=2)

    assert [one.settings for one in first.tried] == [SessionSettings(spinning=False)]
    assert first.fingerprint == net.target().fingerprint()
    assert Package.load(net.path).manifest.sessions == (again,), "one for each machine"
    assert (net.path / "graphopt.lock").read_bytes() == lock
    assert run(["tune", str(net.path / "nowhere")]) == 2
    assert "does not exist" in capsys.readouterr().err


@pytest.mark.slow
def test_a_text_on_the_command_line(
    tmp_path: Path, tiny_coder_at: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    folder = Path(shutil.copytree(tiny_coder_at("int4"), tmp_path / "package"))
    monkeypatch.setattr(Target, "session_choices", lambda _: {"threads": [1]})
    asked = ("--prompt-tokens", "8", "--new-tokens", "2", "--blocks", "2", "--json", "-")

    assert run(["tune", str(folder), *asked]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["measured"] == "a text of 8 tokens read and 2 written"
    assert [one["settings"]["threads"] for one in found["tried"]] == [1]
    package = RunnablePackage.load(folder)
    assert package.manifest.sessions[0].model_dump() == TunedSession.model_validate(found).model_dump()
