"""Speed and memory of packages, each measurement in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from graphopt.errors import EnvironmentProblem
from graphopt.evaluate._estimate import Estimate, bootstrap

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

    Rates are tokens a second (`steps`: calls a second for other models), latencies seconds, memory bytes.
    """

    rounds: int
    load: Estimate
    first: Estimate
    steps: Estimate
    p50: Estimate
    p90: Estimate
    peak_rss: Estimate
    prefill: Estimate | None


@dataclass(frozen=True)
class Price:
    """Dollars for a million tokens read and a million written, on a machine of this price an hour."""

    per_hour: float
    per_million_in: float
    per_million_out: float


@dataclass(frozen=True)
class BenchReport:
    """One package's speed and, beside another's, the ratios (package over other; above 1 is faster)."""

    package: str
    speed: Speed
    against: str | None = None
    other: Speed | None = None
    steps_ratio: Estimate | None = None
    first_ratio: Estimate | None = None
    price: Price | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def bench(
    package: str | Path,
    *,
    against: str | Path | None = None,
    prompt_tokens: int = 256,
    new_tokens: int = 64,
    rounds: int = 5,
    price: float | None = None,
    inputs: str | Path | None = None,
    threads: int | None = None,
) -> BenchReport:
    """Measure `package` in `rounds` fresh processes; with `against`, interleaved with it in ABBA order.

    `inputs` is an .npz file of feeds for a model that does not generate text. `price` is dollars an hour.
    Raises `EnvironmentProblem` with the worker's message where a process fails.
    """
    folders = [str(package)] + ([str(against)] if against is not None else [])
    arguments = ["--prompt", str(prompt_tokens), "--new", str(new_tokens)]
    arguments += ["--inputs", str(inputs)] if inputs else []
    arguments += ["--threads", str(threads)] if threads else []
    found: dict[int, list[Measurement]] = {index: [] for index in range(len(folders))}
    for number in range(rounds):
        order = list(range(len(folders)))
        for index in order if number % 2 == 0 else reversed(order):
            found[index].append(_measure(folders[index], arguments))
    speed = _summary(found[0])
    priced = _price(speed, price) if price is not None and speed.prefill is not None else None
    if against is None:
        return BenchReport(str(package), speed, price=priced)
    steps = [_rate(a) / _rate(b) for a, b in zip(found[0], found[1], strict=True)]
    first = [b.first_seconds / a.first_seconds for a, b in zip(found[0], found[1], strict=True)]
    return BenchReport(
        str(package), speed, str(against), _summary(found[1]), _median(steps), _median(first), priced
    )


def _measure(folder: str, arguments: Sequence[str]) -> Measurement:
    command = [sys.executable, "-m", _WORKER, folder, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise EnvironmentProblem(f"measuring {folder} failed: {last}")
    data = json.loads(done.stdout.splitlines()[-1])
    return Measurement(**{**data, "step_seconds": tuple(data["step_seconds"])})


def _rate(one: Measurement) -> float:
    return len(one.step_seconds) / sum(one.step_seconds)


def _median(values: Sequence[float]) -> Estimate:
    return bootstrap([np.asarray([v]) for v in values], lambda x: float(np.median(x)))


def _summary(found: Sequence[Measurement]) -> Speed:
    text = found[0].prompt_tokens > 0
    return Speed(
        rounds=len(found),
        load=_median([m.load_seconds for m in found]),
        first=_median([m.first_seconds for m in found]),
        steps=_median([_rate(m) for m in found]),
        p50=_median([float(np.percentile(m.step_seconds, 50)) for m in found]),
        p90=_median([float(np.percentile(m.step_seconds, 90)) for m in found]),
        peak_rss=_median([m.peak_rss for m in found]),
        prefill=_median([m.prompt_tokens / m.first_seconds for m in found]) if text else None,
    )


def _price(speed: Speed, per_hour: float) -> Price:
    assert speed.prefill is not None
    a_second = per_hour / 3600
    return Price(per_hour, 1e6 * a_second / speed.prefill.value, 1e6 * a_second / speed.steps.value)
