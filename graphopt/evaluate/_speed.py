"""Speed and memory of packages, each measurement in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from graphopt.errors import BadInput, EnvironmentProblem
from graphopt.metrics import Estimate, median

__all__ = ["BenchReport", "Measurement", "Price", "Speed", "bench"]

_WORKER = "graphopt.evaluate._worker"


@dataclass(frozen=True)
class Measurement:
    """One process: seconds to load, to the first token (or of a first call), of each step; memory in bytes.

    For a model that does not generate text a step is one call, and `prompt_tokens` is 0.
    """

    load_seconds: float
    first_seconds: float
    step_seconds: tuple[float, ...]
    prompt_tokens: int
    peak_rss: int
    rss: int


@dataclass(frozen=True)
class Speed:
    """A package's measurements, put together: medians over processes with their interval.

    `metrics` are by key of `graphopt.metrics.METRICS`: load_time, memory, peak_memory, and of a model that
    generates text ttft, tpot, tpot_p90, prefill_tokens_per_second, decode_tokens_per_second, of others
    first_call_time, call_time, call_time_p90, calls_per_second.
    """

    rounds: int
    metrics: dict[str, Estimate]

    @property
    def generates(self) -> bool:
        return "ttft" in self.metrics

    @property
    def throughput(self) -> Estimate:
        """Tokens a second in decoding, or calls a second."""
        return self.metrics["decode_tokens_per_second" if self.generates else "calls_per_second"]


@dataclass(frozen=True)
class Price:
    """Dollars for a million tokens read and a million written, on a machine of this price an hour."""

    per_hour: float
    per_million_in: float
    per_million_out: float


@dataclass(frozen=True)
class BenchReport:
    """One package's speed and, beside another's, the speedups: how many times as fast the package is.

    `throughput_speedup` is of decoding (or of calls), `first_speedup` of the first token (or call); `control`
    is what the former comes to where both are the package itself: how far from 1 chance goes (an A/A test).
    """

    package: str
    speed: Speed
    against: str | None = None
    other: Speed | None = None
    throughput_speedup: Estimate | None = None
    first_speedup: Estimate | None = None
    control: Estimate | None = None
    price: Price | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def bench(
    package: str | Path,
    *,
    against: str | Path | None = None,
    control: bool = False,
    prompt_tokens: int = 256,
    new_tokens: int = 64,
    rounds: int = 5,
    price: float | None = None,
    inputs: str | Path | None = None,
    threads: int | None = None,
) -> BenchReport:
    """Measure `package` in `rounds` fresh processes; with `against`, interleaved with it in ABBA order.

    `control` measures the package a second time in every round, for the ratio of equals. `inputs` is an .npz
    file of feeds for a model that does not generate text. `price` is dollars an hour. Raises `BadInput` for
    inputs that do not fit, `EnvironmentProblem` with the worker's last words where a process dies.
    """
    arguments = ["--prompt", str(prompt_tokens), "--new", str(new_tokens)]
    arguments += ["--inputs", str(inputs)] if inputs else []
    arguments += ["--threads", str(threads)] if threads else []
    sides = {"package": str(package)}
    if control:
        sides["control"] = str(package)
    if against is not None:
        sides["against"] = str(against)
    found: dict[str, list[Measurement]] = {side: [] for side in sides}
    for number in range(rounds):
        for side in sides if number % 2 == 0 else reversed(sides):
            found[side].append(_measure(sides[side], arguments))
    speed = _summary(found["package"])
    report = BenchReport(str(package), speed)
    if price is not None and speed.generates:
        report = replace(report, price=_price(speed, price))
    if control:
        report = replace(report, control=median(_ratios(_rate, found["package"], found["control"])))
    if against is not None:
        ours, theirs = found["package"], found["against"]
        report = replace(
            report,
            against=str(against),
            other=_summary(theirs),
            throughput_speedup=median(_ratios(_rate, ours, theirs)),
            first_speedup=median(_ratios(lambda m: 1 / m.first_seconds, ours, theirs)),
        )
    return report


def _measure(folder: str, arguments: Sequence[str]) -> Measurement:
    command = [sys.executable, "-m", _WORKER, folder, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == BadInput.exit_code:
        raise BadInput(done.stderr.strip())
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise EnvironmentProblem(f"measuring {folder} failed: {last}")
    data = json.loads(done.stdout.splitlines()[-1])
    return Measurement(**{**data, "step_seconds": tuple(data["step_seconds"])})


def _ratios(
    speed: Callable[[Measurement], float], ours: Sequence[Measurement], theirs: Sequence[Measurement]
) -> list[float]:
    """Of neighbours in time, so that what slows the machine for a while slows both."""
    return [speed(a) / speed(b) for a, b in zip(ours, theirs, strict=True)]


def _rate(one: Measurement) -> float:
    return len(one.step_seconds) / sum(one.step_seconds)


def _summary(found: Sequence[Measurement]) -> Speed:
    def estimate(one: Callable[[Measurement], float]) -> Estimate:
        return median([one(m) for m in found])

    generates = found[0].prompt_tokens > 0
    first, step = ("ttft", "tpot") if generates else ("first_call_time", "call_time")
    metrics = {
        "load_time": estimate(lambda m: m.load_seconds),
        first: estimate(lambda m: m.first_seconds),
        step: estimate(lambda m: float(np.percentile(m.step_seconds, 50))),
        f"{step}_p90": estimate(lambda m: float(np.percentile(m.step_seconds, 90))),
        "decode_tokens_per_second" if generates else "calls_per_second": estimate(_rate),
        "memory": estimate(lambda m: m.rss),
        "peak_memory": estimate(lambda m: m.peak_rss),
    }
    if generates:
        metrics["prefill_tokens_per_second"] = estimate(lambda m: m.prompt_tokens / m.first_seconds)
    return Speed(len(found), metrics)


def _price(speed: Speed, per_hour: float) -> Price:
    millions = {
        way: 1e6 * per_hour / 3600 / speed.metrics[f"{way}_tokens_per_second"].value
        for way in ("prefill", "decode")
    }
    return Price(per_hour, millions["prefill"], millions["decode"])
