"""Measuring: who is measured when, what the numbers are made of, and what a worker really says. No timing."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import parser

from graphopt import BadInput, EnvironmentProblem
from graphopt.evaluate import BenchReport, Measurement, Speed, _speed, _worker, bench
from graphopt.ir import save_model
from tests.passes._canonical import Shape, canonical_decoder

RELU = """
    <ir_version: 10, opset_import: ["" : 23]>
    g (float[N, 4] x) => (float[N, 4] y) { y = Relu(x) }
"""
SPEEDS = {"fast": 0.01, "slow": 0.04}


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Folders in the order they are measured; each round is half as fast as the one before."""
    order: list[str] = []

    def measure(folder: str, arguments: object) -> Measurement:
        step = SPEEDS[folder] * 2 ** order.count(folder)
        order.append(folder)
        return Measurement(1.0, 10 * step, (step, step, 3 * step, step), 100, 1000, 900)

    monkeypatch.setattr(_speed, "_measure", measure)
    return order


@pytest.fixture
def relu(tmp_path: Path) -> Path:
    onnx.save(parser.parse_model(RELU), tmp_path / "model.onnx")
    np.savez(tmp_path / "in.npz", x=np.ones((2, 4), np.float32))
    return tmp_path


def test_two_take_turns_and_who_goes_first(measured: list[str]) -> None:
    bench("fast", against="slow", rounds=4)

    assert measured == ["fast", "slow", "slow", "fast", "fast", "slow", "slow", "fast"]


def test_a_ratio_is_of_neighbours(measured: list[str]) -> None:
    found = bench("fast", against="slow", rounds=4)

    assert found.steps_ratio is not None
    assert found.first_ratio is not None
    for ratio in (found.steps_ratio, found.first_ratio):
        assert (ratio.value, ratio.low, ratio.high) == pytest.approx((4.0, 4.0, 4.0))


def test_above_one_is_faster(measured: list[str]) -> None:
    found = bench("slow", against="fast", rounds=2)

    assert found.steps_ratio is not None
    assert found.steps_ratio.value == pytest.approx(0.25)
    assert found.other is not None
    assert found.other.steps.value > found.speed.steps.value


def test_a_control_is_the_package_again(measured: list[str]) -> None:
    found = bench("fast", against="slow", control=True, rounds=2)

    assert measured == ["fast", "fast", "slow", "slow", "fast", "fast"]
    assert found.control is not None
    assert found.control.low < 1.0 < found.control.high


def test_medians_over_processes(measured: list[str]) -> None:
    speed = bench("fast", rounds=3).speed

    assert speed.rounds == 3
    assert speed.first.value == pytest.approx(0.2)
    assert speed.steps.value == pytest.approx(4 / (0.02 + 0.02 + 0.06 + 0.02))
    assert speed.p50.value == pytest.approx(0.02)
    assert speed.p90.value == pytest.approx(np.percentile([0.02, 0.02, 0.06, 0.02], 90))
    assert speed.prefill is not None
    assert speed.prefill.value == pytest.approx(100 / 0.2)
    assert (speed.peak_rss.value, speed.rss.value) == (1000, 900)
    assert (speed.p50.low, speed.p50.high) == pytest.approx((0.01, 0.04))


def test_price(measured: list[str]) -> None:
    found = bench("fast", rounds=1, price=3.6)

    assert found.price is not None
    assert found.price.per_million_in == pytest.approx(1e6 * 0.001 / found.speed.prefill.value)  # type: ignore[union-attr]
    assert found.price.per_million_out == pytest.approx(1e6 * 0.001 / found.speed.steps.value)


def test_json(measured: list[str]) -> None:
    data = json.loads(json.dumps(bench("fast", against="slow", control=True, rounds=2, price=1.0).to_json()))

    assert set(data) == {field.name for field in fields(BenchReport)}
    assert set(data["speed"]) == set(data["other"]) == {field.name for field in fields(Speed)}
    for estimate in (data["steps_ratio"], data["first_ratio"], data["control"], data["speed"]["load"]):
        assert set(estimate) == {"value", "low", "high"}
    assert set(data["price"]) == {"per_hour", "per_million_in", "per_million_out"}


def test_calls_of_a_model_in_a_process_of_its_own(relu: Path) -> None:
    found = bench(relu, inputs=relu / "in.npz", new_tokens=3, rounds=1)

    assert found.speed.prefill is None
    assert found.speed.steps.value > 0
    assert 0 < found.speed.rss.value <= found.speed.peak_rss.value


def test_decoding_where_genai_cannot(tmp_path: Path) -> None:
    save_model(canonical_decoder(Shape()), tmp_path / "model.onnx")
    found = bench(tmp_path, prompt_tokens=9, new_tokens=4, rounds=1, price=1.0)

    assert found.speed.prefill is not None
    assert found.price is not None


def test_a_cache_that_is_not_written_in_place_grows(
    generating: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a package that was stopped before its attention was lowered; and no text outgrows its context."""
    folder = generating(context_length=40, vocab_size=Shape().vocab)
    save_model(canonical_decoder(Shape()), folder / "model.onnx")
    monkeypatch.setattr(_worker, "_is_package", lambda _: True)
    found = _worker.measure(folder, 20, 64, None, 1)

    assert len(found["step_seconds"]) == 40 - 20 - 1


def test_memory_is_the_workers_own(relu: Path) -> None:
    """What getrusage says of a new process starts with the peak of the one that started it."""
    script = (
        "import sys; from pathlib import Path; from graphopt.evaluate import bench\n"
        "ballast = b'x' * (400 << 20); del ballast\n"
        "print(bench(sys.argv[1], inputs=sys.argv[2], new_tokens=1, rounds=1).speed.peak_rss.value)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(relu), str(relu / "in.npz")],
        capture_output=True,
        text=True,
        check=True,
    )

    assert float(done.stdout) < 300 << 20


@pytest.mark.parametrize(
    ("inputs", "message"),
    [(None, "--inputs"), ("absent.npz", r"absent\.npz is not"), ("other.npz", r"cannot run on other\.npz")],
)
def test_wrong_inputs(relu: Path, inputs: str | None, message: str) -> None:
    np.savez(relu / "other.npz", z=np.ones(3, np.float32))

    with pytest.raises(BadInput, match=message):
        bench(relu, inputs=relu / inputs if inputs else None, rounds=1)


def test_a_worker_that_dies_is_named_with_its_last_words(
    relu: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "dying.py").write_text("raise MemoryError('too big')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(_speed, "_WORKER", "dying")

    with pytest.raises(EnvironmentProblem, match="MemoryError: too big"):
        bench(relu, rounds=1)


@pytest.fixture
def generating(tmp_path: Path) -> Callable[..., Path]:
    """A folder whose genai_config.json has these values."""

    def make(**model: object) -> Path:
        (tmp_path / "genai_config.json").write_text(json.dumps({"model": model}))
        return tmp_path

    return make


def test_a_prompt_that_fills_the_context(generating: Callable[..., Path]) -> None:
    with pytest.raises(BadInput, match="no room in a context of 32"):
        bench(generating(context_length=32, vocab_size=9), prompt_tokens=31, rounds=1)
