"""Results over time, as plain files that a repository can hold: written, and read as series."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from graphopt.errors import BadInput
from graphopt.gate._result import read_result
from graphopt.gate._words import described
from graphopt.io import nearest
from graphopt.report import GateOutcome, GateReport, GateVerdict

__all__ = ["HistoryPoint", "HistorySeries", "history", "read_history", "record"]

_TIMED = ("s", "tokens/s", "calls/s")
"""Units of what another machine has another value of."""
_RESIDENT = ("memory", "peak_memory")
"""Metrics in bytes that depend on the machine as well."""
_SHORT = 12
"""Digits of a commit or digest in names: git's own choice for the largest repositories."""


@dataclass(frozen=True)
class HistoryPoint:
    """A value of the package itself in one run, in the metric's unit."""

    date: datetime
    commit: str
    value: float
    verdict: GateVerdict


@dataclass(frozen=True)
class HistorySeries:
    """Values of one metric that may be compared with each other, the oldest first.

    `place` is the processor and its threads for metrics of speed and memory, the data's digest for those that
    are measured on data, and empty for exact ones. `exact`: chance has no part in any of the values.
    """

    package: str
    metric: str
    scope: str
    place: str
    exact: bool
    points: tuple[HistoryPoint, ...]

    @property
    def title(self) -> str:
        """The metric, of what, and of which package."""
        metric = f"{self.metric} ({self.scope})" if self.scope else self.metric
        return f"{metric} of {self.package}"


def record(report: GateReport, folder: Path) -> Path:
    """Add a result to the history in `folder`, without samples and generated texts; the file that holds it.

    A file is a run, named by date, commit and content: two runs at once, or on two branches, never write the
    same file, and a run that is killed leaves none. A result without a date gets this moment's.
    """
    date = _date(report) if report.provenance.date else datetime.now(UTC)
    provenance = report.provenance.model_copy(update={"date": date.isoformat(timespec="seconds")})
    kept = report.model_copy(update={"samples": [], "generations": [], "provenance": provenance})
    content = (kept.model_dump_json(indent=1) + "\n").encode()
    commit = re.sub(r"[^\w.-]", "", provenance.commit)[:_SHORT] or "uncommitted"
    digest = hashlib.sha256(content).hexdigest()[:_SHORT]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{date.astimezone(UTC):%Y%m%dT%H%M%SZ}-{commit}-{digest}.json"
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=".", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)  # a temporary file is its owner's alone, a repository's is not
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path


def read_history(folder: Path) -> list[GateReport]:
    """The results in `folder`, the oldest first; `BadInput` where there is none, or a file that is none."""
    if not folder.is_dir():
        raise BadInput(f"{folder} is no folder", hint="`graphopt gate --record DIR` makes one.")
    read = ((path.name, read_result(path)) for path in folder.glob("[!.]*.json"))
    dated = [(_date(report), name, report) for name, report in read]
    if not dated:
        raise BadInput(f"{folder} holds no results", hint="`graphopt gate --record DIR` adds one.")
    return [report for *_, report in sorted(dated, key=lambda each: each[:2])]


def history(reports: Iterable[GateReport], metric: str | None = None) -> list[HistorySeries]:
    """Series of what `reports`, the oldest first, measured; of one `metric` only, where it is given.

    Raises `BadInput`, with the nearest name, for a metric that none of them has.
    """
    points: dict[tuple[str, str, str, str], list[HistoryPoint]] = {}
    chance: set[tuple[str, str, str, str]] = set()
    for report in reports:
        seen = set()
        for outcome in report.outcomes:
            key = (report.provenance.package, outcome.metric, outcome.scope, _place(outcome, report))
            if key in seen:
                continue  # a second bound of the same metric has the same value
            seen.add(key)
            if not outcome.exact:
                chance.add(key)
            point = HistoryPoint(_date(report), report.provenance.commit, outcome.own, outcome.verdict)
            points.setdefault(key, []).append(point)
    known = sorted({key[1] for key in points})
    if metric is not None and metric not in known:
        near = nearest(metric, known)
        hint = f"Did you mean {near!r}?" if near else f"There are {', '.join(known)}."
        raise BadInput(f"no result has a metric {metric!r}", hint=hint)
    return [
        HistorySeries(*key, exact=key not in chance, points=tuple(found))
        for key, found in points.items()
        if metric in (None, key[1])
    ]


def _place(outcome: GateOutcome, report: GateReport) -> str:
    made = report.provenance
    if described(outcome.metric).unit in _TIMED or outcome.metric in _RESIDENT:
        return f"{made.cpu or 'unknown processor'}, {made.threads} threads"
    if outcome.exact or not made.data_digest:
        return ""
    return f"data {made.data_digest.removeprefix('sha256:')[:_SHORT]}"


def _date(report: GateReport) -> datetime:
    try:
        date = datetime.fromisoformat(report.provenance.date)
    except ValueError as error:
        raise BadInput(f"a result is of {report.provenance.date!r}, which is no date (ISO 8601)") from error
    return date if date.tzinfo else date.replace(tzinfo=UTC)
