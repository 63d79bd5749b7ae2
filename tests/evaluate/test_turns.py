"""Who is measured when, and what becomes of it: evidence that an even drift does not touch. No timing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from graphopt import BadInput
from graphopt.evaluate import Measurable, Measurement, SpeedTurns, _processes, _worker
from graphopt.evaluate._blocks import turns_of
from graphopt.metrics import METRICS, Turns, control, estimate
from tests.evaluate.test_speed import measurement

SIDES = ("package", "baseline", "control")


@pytest.fixture(autouse=True)
def warm_workers() -> None:
    """Real ones."""


class Machine:
    """A machine on which the steps of packages take `seconds`, more with every process by `drift`."""

    def __init__(self, seconds: dict[str, float], drift: float = 0.0) -> None:
        self.seconds, self.drift = seconds, drift
        self.calls: list[list[str]] = []
        self.jobs: list[Sequence[str]] = []
        self.limits: list[float] = []

    def __call__(
        self,
        jobs: Sequence[Sequence[str]],
        look: Callable[[], None] = lambda: None,
        *,
        seconds: float = _processes.LIMIT,
    ) -> list[Measurement]:
        self.limits.append(seconds)
        self.calls.append([Path(job[0]).name for job in jobs])
        found = []
        for job in jobs:
            slower = 1 + self.drift * len(self.jobs)
            self.jobs.append(job)
            found.append(measurement(self.seconds[Path(job[0]).name] * slower))
            look()
        return found


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Machine]:
    def make(drift: float = 0.0, **seconds: float) -> Machine:
        found = Machine(seconds, drift)
        monkeypatch.setattr(_processes, "measured", found)
        return found

    return make


@pytest.fixture
def folders(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """Two that onnxruntime-genai would take for models."""
    for name in ("new", "old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "genai_config.json").write_text('{"model": {"vocab_size": 9}}')
    return tmp_path / "new", tmp_path / "old"


def test_sides_take_turns_there_and_back_and_each_goes_first() -> None:
    assert [" ".join(turns_of("ABC", number)) for number in range(4)] == [
        "A B C C B A",
        "B C A A C B",
        "C A B B A C",
        "A B C C B A",
    ]
    assert turns_of("A", 1) == ["A", "A"]


def test_an_even_drift_slows_all_sides_alike() -> None:
    for number in range(3):
        places = np.arange(6)
        turns = np.asarray(turns_of(SIDES, number))
        assert {float(places[turns == side].mean()) for side in SIDES} == {2.5}


def test_blocks(machine: Callable[..., Machine], folders: tuple[Path, Path]) -> None:
    found = machine(new=0.01, old=0.02)
    turns = SpeedTurns(*folders, metrics=("tpot", "ttft"), threads=3)
    turns.add_block()
    turns.add_block()

    warm, first, second = found.calls
    assert warm == ["new", "old"], "one each that does not count"
    assert first == ["new", "old", "new", "new", "old", "new"]
    assert second == ["old", "new", "new", "new", "new", "old"]
    assert turns.blocks == 2
    assert found.limits == [1800, 60, 60], "who takes far longer than the first is not waited for"
    assert {tuple(job[1:]) for job in found.jobs} == {
        ("--metrics", "tpot,ttft", "--prompt", "256", "--new", "64", "--batch", "8", "--threads", "3")
    }, "all sides are measured alike"


def test_samples(machine: Callable[..., Machine], folders: tuple[Path, Path]) -> None:
    machine(new=0.01, old=0.02)
    turns = SpeedTurns(*folders, metrics=("tpot", "peak_memory"))
    turns.add_block()
    turns.add_block()

    tpot, memory = turns.samples()
    assert (tpot.metric, memory.metric) == ("tpot", "peak_memory")
    for sample in (tpot, memory):
        evidence = sample.evidence
        assert isinstance(evidence, Turns)
        assert evidence.baseline is not None
        assert evidence.control is not None
        assert evidence.values.shape == evidence.baseline.shape == evidence.control.shape == (2, 2)
    assert estimate(tpot.evidence, relative=True).value == pytest.approx(0.5)


def test_a_drift_does_not_look_like_a_difference(
    machine: Callable[..., Machine], folders: tuple[Path, Path]
) -> None:
    """2 % slower with each process, as of a machine that warms up: a fifth within a block."""
    machine(new=0.01, old=0.01, drift=0.02)
    turns = SpeedTurns(*folders, metrics=("tpot",))
    for _ in range(9):
        turns.add_block()

    (sample,) = turns.samples()
    assert isinstance(sample.evidence, Turns)
    assert estimate(sample.evidence, relative=True).value == pytest.approx(1, abs=1e-3)
    assert control(sample.evidence).value == pytest.approx(1, abs=1e-3)
    assert sample.evidence.values[-1].mean() > 1.5 * sample.evidence.values[0].mean(), "it did drift"


def test_without_a_baseline_the_control_is_there(
    machine: Callable[..., Machine], folders: tuple[Path, Path]
) -> None:
    found = machine(new=0.01)
    turns = SpeedTurns(folders[0], metrics=("tpot",))
    turns.add_block()

    assert found.calls == [["new"], ["new"] * 4]
    (sample,) = turns.samples()
    assert isinstance(sample.evidence, Turns)
    assert sample.evidence.baseline is None
    assert sample.evidence.control is not None


def test_nothing_is_said_before_the_first_block(folders: tuple[Path, Path]) -> None:
    with pytest.raises(BadInput, match="not measured yet"):
        SpeedTurns(*folders, metrics=("tpot",)).samples()


def test_evidence_survives_json(machine: Callable[..., Machine], folders: tuple[Path, Path]) -> None:
    machine(new=0.013, old=0.02)
    turns = SpeedTurns(*folders, metrics=("tpot",))
    turns.add_block()
    (sample,) = turns.samples()
    assert isinstance(sample.evidence, Turns)
    text = json.dumps({side: values.tolist() for side, values in asdict(sample.evidence).items()})
    again = Turns(**{side: np.asarray(values) for side, values in json.loads(text).items()})

    for side in ("values", "baseline", "control"):
        assert np.array_equal(getattr(again, side), getattr(sample.evidence, side))


@pytest.mark.parametrize("when", ["before", "between"])
def test_a_package_that_changes_is_refused(
    machine: Callable[..., Machine], folders: tuple[Path, Path], when: str
) -> None:
    found = machine(new=0.01, old=0.02)
    turns = SpeedTurns(*folders, metrics=("tpot",))
    if when == "between":
        turns.add_block()
    (folders[1] / "model.onnx").write_bytes(b"new")

    with pytest.raises(BadInput, match=r"old/model\.onnx changed while it was measured"):
        turns.add_block()
    assert len(found.calls) == (0 if when == "before" else 2), "nothing more is measured"


@pytest.mark.parametrize(
    ("metric", "hint"),
    [("call_time", "It has batch_tokens"), ("tpott", "It has tpot"), ("kl_mean", "It has batch_tokens")],
)
def test_metrics_that_are_not_of_such_a_package(folders: tuple[Path, Path], metric: str, hint: str) -> None:
    with pytest.raises(BadInput, match=f"the speed of .*new has no {metric}\n  {hint}"):
        SpeedTurns(*folders, metrics=("tpot", metric))


def test_what_is_measured_is_in_the_table(folders: tuple[Path, Path], tmp_path: Path) -> None:
    np.savez(tmp_path / "pixels.npz", pixel_values=np.ones((1, 3)))
    text, calls = Measurable(folders[0]), Measurable(folders[0], inputs=tmp_path / "pixels.npz")

    assert text.generates
    assert not calls.generates
    assert text.metrics | calls.metrics <= set(METRICS)
    assert "batch_tokens_per_second" in text.metrics - calls.metrics


def test_a_prompt_that_fills_the_context_of_one(folders: tuple[Path, Path]) -> None:
    (folders[1] / "genai_config.json").write_text('{"model": {"context_length": 100}}')

    with pytest.raises(BadInput, match=r"no room in .*old's context of 100"):
        SpeedTurns(*folders, metrics=("tpot",))


def test_real_processes(tiny_coder_at: Callable[[str], Path], tmp_path: Path) -> None:
    """Every metric of a package that generates text, in two processes of each side."""
    package = Path(shutil.copytree(tiny_coder_at("lossless"), tmp_path / "package"))
    metrics = sorted(Measurable(package).metrics)
    said: list[str] = []
    turns = SpeedTurns(
        package, metrics=metrics, prompt_tokens=6, new_tokens=2, batch=2, threads=1, say=said.append
    )
    turns.add_block()

    assert said == ["speed: block 1"]
    assert turns.seconds > 0
    assert {side: [len(b) for b in blocks] for side, blocks in turns.measurements.items()} == {
        "package": [2],
        "control": [2],
    }
    for sample in turns.samples():
        assert isinstance(sample.evidence, Turns)
        assert sample.evidence.values.shape == (1, 2)
        assert (sample.evidence.values > 0).all(), sample.metric


def test_an_encoder_is_called_with_a_legal_text(encoder: tuple[Path, Path]) -> None:
    measurable = Measurable(encoder[1], prompt_tokens=1000)
    path = measurable.inputs(encoder[1])
    assert path is not None
    feeds = dict(np.load(path))
    ask = _worker.Ask(encoder[1], measurable.metrics, prompt=1000, new=2, batch=3, inputs=path, threads=1)
    found = Measurement.of(_worker.measure(ask))

    rows, length = feeds["input_ids"].shape
    assert (rows, length) == (1, 128), "as long as it may be"
    assert set(found.metrics()) == measurable.metrics
    assert {tokens for tokens, _ in found.batches} == {3 * length}


def test_inputs_are_what_each_side_takes(encoder: tuple[Path, Path], tmp_path: Path) -> None:
    """The baseline has the source's inputs, the package one less: each is called with its own."""
    fewer = Path(shutil.copytree(encoder[1], tmp_path / "fewer"))
    said = json.loads((fewer / "graphopt.json").read_text())
    said["adapters"] = [{"kind": "dropped-input", "name": "token_type_ids"}]
    (fewer / "graphopt.json").write_text(json.dumps(said))
    measurable = Measurable(fewer)
    files = [measurable.inputs(folder) for folder in (fewer, encoder[1])]

    ours, theirs = (set(np.load(file)) for file in files if file is not None)
    assert theirs - ours == {"token_type_ids"}


def test_a_baseline_of_another_kind(encoder: tuple[Path, Path], folders: tuple[Path, Path]) -> None:
    with pytest.raises(BadInput, match="generates no text"):
        SpeedTurns(folders[0], encoder[1], metrics=("peak_memory",))
