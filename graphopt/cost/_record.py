"""What was predicted of a machine and then measured there, kept for the next prediction to say how far off
the last ones were."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from graphopt.cost._prediction import Situation
from graphopt.io import cache_folder
from graphopt.machine import Interval, Profile

__all__ = ["History", "MetricHistory", "Outcome", "history_of", "outcomes", "record"]

_LARGEST = 1 << 20
"""Bytes of a file after which another begins: some four thousand lines. The last two are read."""


class Outcome(BaseModel):
    """A metric that was predicted of a package, and then measured. `package` is the digest of its graph."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1] = 1
    at: datetime
    package: str
    metric: str
    predicted: Interval
    measured: float = Field(gt=0, allow_inf_nan=False)
    prompt: int
    new: int
    batch: int
    threads: int
    bandwidth: float | None = None
    pulse: float | None = None

    @property
    def error(self) -> float:
        """What share of what was measured the prediction is off by."""
        return abs(self.predicted.value / self.measured - 1)

    @property
    def held(self) -> bool:
        """Whether the measurement lies in the interval that was predicted."""
        return self.predicted.low <= self.measured <= self.predicted.high


@dataclass(frozen=True)
class MetricHistory:
    """How far off predictions of a metric were: the median of their errors, and how many intervals held."""

    count: int
    median_error: float
    coverage: float


@dataclass(frozen=True)
class History:
    """By metric, of one machine. `damaged` lines of the record could not be read, and were left out."""

    metrics: Mapping[str, MetricHistory] = field(default_factory=dict)
    damaged: int = 0


def outcomes(
    predicted: Mapping[str, Interval], measured: Mapping[str, float], situation: Situation, package: str
) -> list[Outcome]:
    """Of all metrics that were both predicted and measured."""
    now = datetime.now(UTC)
    return [
        Outcome(
            at=now,
            package=package,
            metric=metric,
            predicted=interval,
            measured=measured[metric],
            prompt=situation.prompt,
            new=situation.new,
            batch=situation.batch,
            threads=situation.threads,
            bandwidth=situation.bandwidth,
            pulse=situation.pulse,
        )
        for metric, interval in predicted.items()
        if measured.get(metric, 0) > 0
    ]


def record(profile: Profile, found: Sequence[Outcome], folder: Path | None = None) -> None:
    """Add to what is kept of this machine, below `folder` (graphopt's cache).

    Where that cannot be written it is a warning: what was measured counts all the same.
    """
    path = _path(profile, folder)
    try:
        _append(path, found)
    except OSError as error:
        print(f"warning: the record of predictions cannot be written: {error}", file=sys.stderr)


def _append(path: Path, found: Sequence[Outcome]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = "".join(f"{one.model_dump_json()}\n" for one in found).encode()
    if path.is_file() and path.stat().st_size + len(lines) > _LARGEST:
        path.replace(_older(path))
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(handle, _mended(path) + lines)  # one write: another process may add lines, too
    finally:
        os.close(handle)


def history_of(profile: Profile, folder: Path | None = None) -> History:
    """How far off predictions of this machine were so far."""
    path = _path(profile, folder)
    found: dict[str, list[Outcome]] = {}
    damaged = 0
    for line in [*_lines(_older(path)), *_lines(path)]:
        try:
            one = Outcome.model_validate_json(line)
        except ValidationError:
            damaged += 1
            continue
        found.setdefault(one.metric, []).append(one)
    return History({metric: _summary(ones) for metric, ones in found.items()}, damaged)


def _summary(found: Sequence[Outcome]) -> MetricHistory:
    errors, held = [one.error for one in found], [one.held for one in found]
    return MetricHistory(len(found), float(np.median(errors)), float(np.mean(held)))


def _lines(path: Path) -> Iterable[bytes]:
    try:
        return [line for line in path.read_bytes().splitlines() if line.strip()]
    except FileNotFoundError:
        return []


def _mended(path: Path) -> bytes:
    """The end of a line that a killed process began, so that it spoils no other."""
    with path.open("rb") as file:
        if not file.seek(0, os.SEEK_END):
            return b""
        file.seek(-1, os.SEEK_END)
        return b"" if file.read() == b"\n" else b"\n"


def _path(profile: Profile, folder: Path | None) -> Path:
    said = json.dumps([profile.target, dict(sorted(profile.identity.items()))])
    name = hashlib.sha256(said.encode()).hexdigest()[:32]
    return (folder or cache_folder()) / "predictions" / f"{name}.jsonl"


def _older(path: Path) -> Path:
    return path.with_suffix(".older.jsonl")
