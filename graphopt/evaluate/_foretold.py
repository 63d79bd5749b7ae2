"""What a machine's profile foretells of a package, beside what is then measured of it."""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from graphopt.io import digest_of
from graphopt.machine import (
    Interval,
    MemorySample,
    Profile,
    Pulse,
    Stream,
    keep_profile,
    known_profile,
    with_memory,
)
from graphopt.package import MANIFEST, RunnablePackage
from graphopt.runtime import default_threads

if TYPE_CHECKING:
    from graphopt.cost import History

__all__ = ["Foretelling", "Foretold", "foretelling_of"]

_GRAPH = "model"


@dataclass(frozen=True)
class Foretold:
    """What the profile of this machine says of a package, by key of `graphopt.metrics.METRICS`.

    `missed` are metrics whose measurement lies outside the interval that was foretold. `history` is how far
    off this machine's predictions were before. `bandwidth` is what memory gave meanwhile, bytes a second,
    `pulse` what a call of the machine's pulse took, seconds; `widened` says why intervals are wide, `unknown`
    names nodes without which there are no times.
    """

    predicted: Mapping[str, Interval]
    missed: tuple[str, ...]
    history: History
    bandwidth: float | None = None
    pulse: float | None = None
    widened: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


@dataclass
class Foretelling:
    """A prediction that is about to be tried: `probe` is called between measurements."""

    profile: Profile
    package: RunnablePackage
    threads: int
    stream: Stream
    pulse: Pulse
    samples: list[MemorySample] = field(default_factory=list)

    def probe(self) -> None:
        """Look what memory gives and how fast processors are at the moment."""
        now = datetime.datetime.now(datetime.UTC)
        read = self.stream.sample(self.threads)
        self.samples.append(MemorySample(at=now, threads=self.threads, read=read))
        self.pulse.sample(self.threads)

    def told(self, measured: Mapping[str, float], prompt: int, new: int) -> Foretold:
        """What was foretold of what is now `measured`. Both are kept, and what memory gave, too."""
        from graphopt.cost import Situation, history_of, outcomes, predict, record, work_of

        path = self.package.path / self.package.manifest.graphs[_GRAPH].file
        bandwidth = float(np.median([one.read for one in self.samples])) if self.samples else None
        beats = self.pulse.samples.get(self.threads)
        pulse = float(np.median(beats)) if beats else None
        situation = Situation(prompt, new, threads=self.threads, bandwidth=bandwidth, pulse=pulse)
        found = predict(work_of(ir.load(path)), self.profile, situation)
        tried = outcomes(found.metrics, measured, situation, digest_of(path)[:16])
        before = history_of(self.profile)
        record(self.profile, tried)
        with contextlib.suppress(OSError):  # which the record has said
            keep_profile(with_memory(self.profile, self.samples))
        missed = tuple(one.metric for one in tried if not one.held)
        return Foretold(
            {one.metric: one.predicted for one in tried},
            missed,
            before,
            bandwidth,
            pulse,
            found.widened,
            found.unknown,
        )


def foretelling_of(folder: str | Path, threads: int | None) -> Foretelling | None:
    """That of a package that generates text, where its target was profiled on this machine with so many
    `threads` (None: what this process may use)."""
    if not (Path(folder) / MANIFEST).is_file():
        return None
    package = RunnablePackage.load(folder)
    graph = package.manifest.graphs.get(_GRAPH)
    if graph is None or not graph.past():
        return None
    count = threads or default_threads()
    target = package.target()
    profile = known_profile(target, count)
    return None if profile is None else Foretelling(profile, package, count, Stream(), Pulse(target))
