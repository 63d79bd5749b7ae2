"""Interleaved rounds of fresh processes, kept in a file so that a killed run goes on, and tables of them.

A round measures every peer once, each in a process of its own, in an order that is turned around from one
round to the next. It counts when all of it was measured: what a kill leaves unfinished is measured anew,
because only neighbours in time are compared.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from graphopt.metrics import Estimate, median

AGAIN = " again"
"""What the name of a control ends with: the same peer a second time in each round."""


@dataclass(frozen=True)
class Peer:
    """One of those compared: `command` prints a JSON object as its last line; `made` is what it measures."""

    name: str
    command: tuple[str, ...]
    made: str = ""

    def again(self) -> Peer:
        return Peer(self.name + AGAIN, self.command, self.made)


@dataclass(frozen=True)
class Round:
    """Results by peer, of one cell of a table (shape, prompt, batch, ...), and what each was measured on."""

    cell: dict[str, Any]
    made: dict[str, str]
    when: str
    results: dict[str, dict[str, Any]]


class Rounds:
    """The rounds in a file, one a line."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __iter__(self) -> Iterator[Round]:
        return (Round(**json.loads(line)) for line in self._lines())

    def _lines(self) -> list[str]:
        """Whole lines: a kill may have cut the last one."""
        text = self.path.read_text() if self.path.is_file() else ""
        return [line for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def add(self, one: Round) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        whole = sum(map(len, self._lines()))
        with self.path.open("a+") as file:
            file.truncate(whole)
            file.write(json.dumps(one.__dict__) + "\n")

    def of(self, cell: Mapping[str, Any], peers: Iterable[Peer]) -> list[Round]:
        """Those of `cell` in which all of `peers` were measured as they are made now."""
        wanted = {peer.name: peer.made for peer in peers}
        return [r for r in self if r.cell == cell and wanted.items() <= r.made.items()]

    def measure(
        self, cell: dict[str, Any], peers: Sequence[Peer], count: int, in_time: Callable[[], bool]
    ) -> bool:
        """Have `count` rounds, beginning one only while `in_time`; whether they are all there."""
        while (number := len(self.of(cell, peers))) < count:
            if not in_time():
                return False
            order = peers if number % 2 == 0 else peers[::-1]
            results = {peer.name: run(peer) for peer in order}
            now = datetime.now(UTC).isoformat(timespec="seconds")
            self.add(Round(cell, {p.name: p.made for p in peers}, now, results))
        return True


def run(peer: Peer) -> dict[str, Any]:
    """What the peer's process printed, and the share of all processors that others used meanwhile ("others").

    `{"error": its last words}` where it failed.
    """
    started, before = time.perf_counter(), busy()
    done = subprocess.run(peer.command, capture_output=True, text=True, check=False)
    seconds, used = time.perf_counter() - started, busy() - before
    if done.returncode:
        words = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        result: dict[str, Any] = {"error": words[-1]}
    else:
        result = json.loads(done.stdout.splitlines()[-1])
        result["others"] = min(1.0, max(0.0, used / seconds / (os.cpu_count() or 1)))
    short = {k: round(v, 2) for k, v in result.items() if isinstance(v, float)} or result
    print(f"{peer.name}: {short} ({seconds:.0f} s)", file=sys.stderr, flush=True)
    return result


def busy() -> float:
    """Seconds of processor time that everyone but this process's finished children has used so far."""
    fields = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    idle = fields[3] + fields[4]
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (sum(fields[:8]) - idle) / os.sysconf("SC_CLK_TCK") - children.ru_utime - children.ru_stime


def deadline(minutes: float | None) -> Callable[[], bool]:
    """Whether `minutes` from now are not over yet."""
    end = time.monotonic() + 60 * minutes if minutes else float("inf")
    return lambda: time.monotonic() < end


def ratio(rounds: Iterable[Round], ours: str, theirs: str, key: str) -> Estimate | None:
    """How many times the peer `theirs` the peer `ours` is, in pairs; None where one of them failed."""
    pairs = [(r.results[ours], r.results[theirs]) for r in rounds]
    if any("error" in one for pair in pairs for one in pair):
        return None
    return median([a[key] / b[key] for a, b in pairs])


def rows_of(
    rounds: Sequence[Round], measured: Callable[[str, list[dict[str, Any]]], dict[str, Any]]
) -> list[dict[str, Any]]:
    """A row of results for each peer: what `measured` makes of its name and results, or why it failed."""
    rows = []
    for name in rounds[0].results:
        results = [one.results[name] for one in rounds]
        failed = next((one["error"] for one in results if "error" in one), None)
        found = measured(name, results) if failed is None else {"failed": f"failed: {failed[:80]}"}
        rows.append({"peer": name} | found)
    return rows


def interval(estimate: Estimate | None, digits: int = 2) -> str:
    if estimate is None:
        return "-"
    return f"{estimate.value:.{digits}f} [{estimate.low:.{digits}f}, {estimate.high:.{digits}f}]"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def table_of(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows of results as they are: columns by their names, numbers by four digits."""
    header = list(dict.fromkeys(key for row in rows for key in row))

    def said(value: Any) -> str:
        if isinstance(value, Estimate | None):
            return interval(value)
        return f"{value:.4g}" if isinstance(value, float) else str(value)

    return table(header, ([said(row.get(key)) for key in header] for row in rows))


_MADE = {".pyc", ".so"}


def stamp(*roots: Path) -> str:
    """Twelve digits that change when a file under `roots` does: a source's text, another's size or time."""
    digest = hashlib.sha256()
    for root in roots:
        for path in sorted(p for p in [root, *root.rglob("*")] if p.is_file() and p.suffix not in _MADE):
            state = path.stat()
            digest.update(str(path.relative_to(root.parent)).encode())
            source = path.suffix in {".py", ".toml", ".c", ".h"}
            digest.update(path.read_bytes() if source else f"{state.st_size} {state.st_mtime_ns}".encode())
    return digest.hexdigest()[:12]


def machine() -> str:
    """What a table was measured on."""
    info = Path("/proc/cpuinfo").read_text()
    fields = dict(line.split(":", 1) for line in info.split("\n\n")[0].splitlines() if ":" in line)
    facts = {key.strip(): value.strip() for key, value in fields.items()}
    units = [u for u in ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8") if u in facts["flags"]]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    name = f"{facts['model name']} (family {facts['cpu family']}, model {facts['model']})"
    return (
        f"{name}, {len(os.sched_getaffinity(0))} cores, {cache() / 2**20:.0f} MB last-level cache, "
        f"{memory:.0f} GB, {' '.join(units)}, Linux {platform.release()}"
    )


def cache() -> int:
    """Bytes of the last-level cache."""
    sizes = Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")
    return max(int(path.read_text().strip().removesuffix("K")) * 1024 for path in sizes)


def versions(rounds: Iterable[Round]) -> dict[str, str]:
    """Versions that the processes named, by library."""
    found: dict[str, str] = {}
    for one in rounds:
        for result in one.results.values():
            found |= result.get("versions", {})
    return dict(sorted(found.items()))


def others(rounds: Iterable[Round]) -> str:
    """How much of the processors others took meanwhile."""
    shares = [result["others"] for r in rounds for result in r.results.values() if "others" in result]
    if not shares:
        return "All processes failed."
    typical, most = f"{np.median(shares):.0%}", f"{max(shares):.0%}"
    return f"Other processes took {typical} of the processors meanwhile (at most {most})."


def footer(rounds: Sequence[Round]) -> str:
    """When, on what and with which versions, and how much of the processors others took meanwhile."""
    days = sorted({r.when[:10] for r in rounds})
    libraries = ", ".join(f"{name} {version}" for name, version in versions(rounds).items())
    when = " to ".join(dict.fromkeys([days[0], days[-1]]))
    return f"Measured {when} on {machine()}. {libraries}. {others(rounds)}"
