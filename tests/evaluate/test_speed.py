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
from graphopt.metrics import METRICS
from graphopt.package import GraphFile, Manifest, TargetInfo
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

    assert found.throughput_speedup is not None
    assert found.first_speedup is not None
    for ratio in (found.throughput_speedup, found.first_speedup):
        assert (ratio.value, ratio.low, ratio.high) == pytest.approx((4.0, 4.0, 4.0))


def test_above_one_is_faster(measured: list[str]) -> None:
    found = bench("slow", against="fast", rounds=2)

    assert found.throughput_speedup is not None
    assert found.throughput_speedup.value == pytest.approx(0.25)
    assert found.other is not None
    assert found.other.throughput.value > found.speed.throughput.value


def test_a_control_is_the_package_again(measured: list[str]) -> None:
    found = bench("fast", against="slow", control=True, rounds=2)

    assert measured == ["fast", "fast", "slow", "slow", "fast", "fast"]
    assert found.control is not None
    assert found.control.low < 1.0 < found.control.high


def test_medians_over_processes(measured: list[str]) -> None:
    speed = bench("fast", rounds=3).speed

    assert speed.rounds == 3
    values = {key: estimate.value for key, estimate in speed.metrics.items()}
    assert values == pytest.approx(
        {
            "load_time": 1.0,
            "ttft": 0.2,
            "tpot": 0.02,
            "tpot_p90": np.percentile([0.02, 0.02, 0.06, 0.02], 90),
            "prefill_tokens_per_second": 100 / 0.2,
            "decode_tokens_per_second": 4 / (0.02 + 0.02 + 0.06 + 0.02),
            "memory": 900,
            "peak_memory": 1000,
        }
    )
    assert (speed.metrics["tpot"].low, speed.metrics["tpot"].high) == pytest.approx((0.01, 0.04))


def test_price(measured: list[str]) -> None:
    found = bench("fast", rounds=1, price=3.6)

    assert found.price is not None
    prefill = found.speed.metrics["prefill_tokens_per_second"].value
    assert found.price.per_million_in == pytest.approx(1e6 * 0.001 / prefill)
    assert found.price.per_million_out == pytest.approx(1e6 * 0.001 / found.speed.throughput.value)


def test_json(measured: list[str]) -> None:
    data = json.loads(json.dumps(bench("fast", against="slow", control=True, rounds=2, price=1.0).to_json()))

    assert set(data) == {field.name for field in fields(BenchReport)}
    assert set(data["speed"]) == set(data["other"]) == {field.name for field in fields(Speed)}
    ratios = (data["throughput_speedup"], data["first_speedup"], data["control"])
    for estimate in (*ratios, *data["speed"]["metrics"].values()):
        assert set(estimate) == {"value", "low", "high"}
    assert set(data["price"]) == {"per_hour", "per_million_in", "per_million_out"}


def test_calls_of_a_model_in_a_process_of_its_own(relu: Path) -> None:
    found = bench(relu, inputs=relu / "in.npz", new_tokens=3, rounds=1)

    metrics = found.speed.metrics
    assert set(metrics) <= set(METRICS)
    assert not found.speed.generates
    assert metrics["calls_per_second"].value > 0
    assert 0 < metrics["memory"].value <= metrics["peak_memory"].value


def test_decoding_where_genai_cannot(tmp_path: Path) -> None:
    save_model(canonical_decoder(Shape()), tmp_path / "model.onnx")
    found = bench(tmp_path, prompt_tokens=9, new_tokens=4, rounds=1, price=1.0)

    assert set(found.speed.metrics) <= set(METRICS)
    assert found.speed.generates
    assert found.price is not None


def test_a_cache_that_is_not_written_in_place_grows(
    generating: Callable[..., Path],
) -> None:
    """As of a package that was stopped before its attention was lowered; and no text outgrows its context."""
    folder = generating(context_length=40, vocab_size=Shape().vocab)
    save_model(canonical_decoder(Shape()), folder / "model.onnx")
    graph = GraphFile(file="model.onnx", inputs=(), outputs=())
    said = {"graphopt": "1", "source": "x", "task": "text-generation", "family": None, "recipe": "lossless"}
    manifest = Manifest(**said, lossless=True, target=TargetInfo(name="cpu"), graphs={"model": graph})
    manifest.write(folder)
    found = _worker.measure(folder, 20, 64, None, 1)

    assert len(found["step_seconds"]) == 40 - 20 - 1


def test_memory_is_the_workers_own(relu: Path) -> None:
    """What getrusage says of a new process starts with the peak of the one that started it."""
    script = (
        "import sys; from pathlib import Path; from graphopt.evaluate import bench\n"
        "ballast = b'x' * (400 << 20); del ballast\n"
        "found = bench(sys.argv[1], inputs=sys.argv[2], new_tokens=1, rounds=1)\n"
        "print(found.speed.metrics['peak_memory'].value)"
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
