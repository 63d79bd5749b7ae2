"""Measuring: what the numbers are made of, and what a worker really says. No timing."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import parser

from graphopt import BadInput, EnvironmentProblem
from graphopt.evaluate import BenchReport, Measurement, Speed, _processes, _worker, bench
from graphopt.ir import save_model
from graphopt.metrics import METRICS
from graphopt.package import GraphFile, Manifest, TargetInfo
from tests.passes._canonical import Shape, canonical_decoder

RELU = """
    <ir_version: 10, opset_import: ["" : 23]>
    g (float[N, 4] x) => (float[N, 4] y) { y = Relu(x) }
"""
SPEEDS = {"fast": 0.01, "slow": 0.04}
ALL = tuple(METRICS)


@pytest.fixture(autouse=True)
def warm_workers() -> None:
    """Real ones."""


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Folders in the order they are measured; in each block all are half as fast as in the one before."""
    order: list[str] = []
    blocks: list[int] = []

    def measure(
        jobs: Sequence[Sequence[str]], look: object = None, *, seconds: float = 0
    ) -> list[Measurement]:
        blocks.append(len(jobs))
        order.extend(job[0] for job in jobs)
        return [measurement(SPEEDS[job[0]] * 2 ** (len(blocks) - 2)) for job in jobs]

    monkeypatch.setattr(_processes, "measured", measure)
    return order


def measurement(step: float, **more: Any) -> Measurement:
    said: dict[str, Any] = {
        "load_seconds": (1.0, 3.0, 2.0),
        "first_seconds": (10 * step, 10 * step, 40 * step),
        "step_seconds": ((step, step, 3 * step, step), (9 * step,) * 4, (step,) * 4),
        "prompt_tokens": 100,
        "peak_rss": 1000,
        "rss": 900,
    }
    return Measurement(**said | more)


@pytest.fixture
def relu(tmp_path: Path) -> Path:
    onnx.save(parser.parse_model(RELU), tmp_path / "model.onnx")
    np.savez(tmp_path / "in.npz", x=np.ones((2, 4), np.float32))
    return tmp_path


def test_metrics_of_a_text() -> None:
    steps = np.asarray([0.01, 0.01, 0.03, 0.01, *[0.09] * 4, *[0.01] * 4])

    assert measurement(0.01, batches=((8, 0.1), (8, 0.4), (8, 0.2))).metrics() == pytest.approx(
        {
            "load_time": 2.0,
            "ttft": 0.1,
            "tpot": np.percentile(steps, 50),
            "tpot_p90": np.percentile(steps, 90),
            "prefill_tokens_per_second": 100 / 0.1,
            "decode_tokens_per_second": 4 / 0.06,
            "batch_tokens_per_second": 8 / 0.2,
            "memory": 900,
            "peak_memory": 1000,
        }
    )


def test_metrics_of_calls() -> None:
    found = measurement(0.01, prompt_tokens=0, first_seconds=(0.5,)).metrics()

    assert found == pytest.approx(
        {
            "load_time": 2.0,
            "first_call_time": 0.5,
            "call_time": 0.01,
            "call_time_p90": 0.09,
            "calls_per_second": 4 / 0.06,
            "memory": 900,
            "peak_memory": 1000,
        },
    )
    assert set(found) <= set(METRICS)


def test_what_was_not_measured_is_no_number() -> None:
    found = measurement(0.01, first_seconds=(), step_seconds=()).metrics()

    assert set(found) == {"load_time", "memory", "peak_memory"}


def test_a_ratio_is_of_the_same_block(measured: list[str]) -> None:
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


def test_what_is_compared_is_compared_with_itself(measured: list[str]) -> None:
    found = bench("fast", against="slow", rounds=2)

    assert measured.count("fast") == 1 + 2 * (2 + 2)
    assert found.control is not None
    assert found.control.value == pytest.approx(1.0)


def test_alone_there_is_no_control(measured: list[str]) -> None:
    found = bench("fast", rounds=3)

    assert measured == ["fast"] * (1 + 2 * 3)
    assert found.control is None
    assert found.speed.rounds == 3
    tpot = found.speed.metrics["tpot"]
    assert tpot.value == pytest.approx(0.02, rel=1e-6), "of 0.01, 0.02, 0.04"
    assert tpot.low < tpot.value < tpot.high


def test_price(measured: list[str]) -> None:
    found = bench("fast", rounds=1, price=3.6)

    assert found.price is not None
    prefill = found.speed.metrics["prefill_tokens_per_second"].value
    assert found.price.per_million_in == pytest.approx(1e6 * 0.001 / prefill)
    assert found.price.per_million_out == pytest.approx(1e6 * 0.001 / found.speed.throughput.value)


def test_json(measured: list[str]) -> None:
    data = json.loads(json.dumps(bench("fast", against="slow", rounds=2, price=1.0).to_json()))

    assert set(data) == {field.name for field in fields(BenchReport)}
    assert set(data["speed"]) == set(data["other"]) == {field.name for field in fields(Speed)}
    ratios = (data["throughput_speedup"], data["first_speedup"], data["control"])
    for estimate in (*ratios, *data["speed"]["metrics"].values()):
        assert set(estimate) == {"value", "low", "high"}
    assert set(data["price"]) == {"per_hour", "per_million_in", "per_million_out"}


def test_calls_of_a_model_in_processes_of_their_own(relu: Path) -> None:
    found = bench(relu, inputs=relu / "in.npz", new_tokens=3, rounds=1)

    metrics = found.speed.metrics
    assert set(metrics) <= set(METRICS)
    assert not found.speed.generates
    assert metrics["calls_per_second"].value > 0
    assert 0 < metrics["memory"].value <= metrics["peak_memory"].value


def test_decoding_where_genai_cannot(tmp_path: Path) -> None:
    save_model(canonical_decoder(Shape()), tmp_path / "model.onnx")
    ask = _worker.Ask(tmp_path, ALL, prompt=9, new=4, batch=3)
    found = Measurement.of(_worker.measure(ask))

    assert set(found.metrics()) <= set(METRICS)
    assert {len(text) for text in found.step_seconds} == {4}
    assert {tokens for tokens, _ in found.batches} == {3 * 4}


@pytest.mark.parametrize(
    ("metrics", "kept"),
    [
        (("load_time",), set()),
        (("batch_tokens_per_second",), {"batches"}),
        (("ttft",), {"first_seconds", "step_seconds"}),
        (("peak_memory",), {"first_seconds", "step_seconds"}),
    ],
)
def test_what_nobody_asked_for_is_not_measured(
    tmp_path: Path, metrics: tuple[str, ...], kept: set[str]
) -> None:
    save_model(canonical_decoder(Shape()), tmp_path / "model.onnx")
    found = _worker.measure(_worker.Ask(tmp_path, metrics, prompt=9, new=2, batch=2))

    assert {key for key in ("batches", "first_seconds", "step_seconds") if found.get(key)} == kept
    assert (len(found["load_seconds"]) > 1) == ("load_time" in metrics)


def test_long_calls_are_fewer(relu: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ask = _worker.Ask(relu, ("call_time",), new=50, inputs=relu / "in.npz", threads=1)
    monkeypatch.setattr(_worker, "_timed", lambda call: call() and 0.2)
    assert [len(text) for text in _worker.measure(ask)["step_seconds"]] == [3]

    monkeypatch.setattr(_worker, "_timed", lambda call: call() and 0.001)
    assert {len(text) for text in _worker.measure(ask)["step_seconds"]} == {50}


def test_a_batch_is_the_rows_again_and_again() -> None:
    ids = np.arange(6).reshape(3, 2)
    mask = np.asarray([[1, 1], [1, 0], [1, 1]])
    feeds = _worker.batch_of({"input_ids": ids, "attention_mask": mask, "scale": np.ones(1)}, 5)

    assert feeds["input_ids"].tolist() == [[0, 1], [2, 3], [4, 5], [0, 1], [2, 3]]
    assert feeds["scale"].shape == (1,)
    assert _worker.tokens_of(feeds) == 8, "padding is no token"
    with pytest.raises(BadInput, match="input_ids"):
        _worker.batch_of({"pixels": ids}, 5)


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
    found = _worker.measure(_worker.Ask(folder, ("tpot",), prompt=20, new=64, threads=1))

    assert {len(text) for text in found["step_seconds"]} == {40 - 20 - 1}


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


READY = "print('ready', flush=True); input(); "


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("raise MemoryError('too big')", "failed: MemoryError: too big"),
        (READY + "raise MemoryError('too big')", "failed: MemoryError: too big"),
        (READY + "import os; os.kill(os.getpid(), 9)", "failed: exit status -9"),
        (READY + "print('Segfault, sort of')", "printed no measurement: Segfault, sort of"),
        (READY + "print('[1, 2]')", r"printed no measurement: \[1, 2\]"),
        (READY, "printed no measurement: nothing"),
        ("import time; time.sleep(60)", "took longer than 1 s"),
        ("print('hello from a plugin'); " + READY, "printed no measurement: nothing"),
        (READY + "import time; time.sleep(60)", "took longer than 1 s"),
    ],
)
def test_a_worker_that_fails_is_named_with_its_last_words(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: str, message: str
) -> None:
    (tmp_path / "failing.py").write_text(code)
    monkeypatch.setattr(_processes, "WORKER", tmp_path / "failing.py")

    with pytest.raises(EnvironmentProblem, match=f"measuring folder {message}"):
        _processes.measured([["folder"], ["folder"]], seconds=1.0)


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
