"""Seconds of a command, and the most memory that it and what it started held, by the kernel's own marks."""

from __future__ import annotations

import resource
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_EVERY = 0.02
"""Seconds between looks. A mark misses nothing that was before it; `wait4` has one of the end as well, but
that begins with the size of the process that starts the other."""


@dataclass(frozen=True)
class Cost:
    """`peak`: the high-water marks (VmHWM, mapped files included) of all processes together, bytes, as if
    all had been at theirs at once. `largest`: that of the largest alone. `processor`: seconds of cores that
    all of them took."""

    seconds: float
    peak: int
    largest: int
    processor: float


def cost(command: Sequence[str], log: Path) -> Cost:
    """Run the command, its output in `log`. SystemExit where it fails."""
    marks: dict[int, int] = {}
    started, before = time.perf_counter(), _busy()
    with log.open("w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
        while process.poll() is None:
            look(process.pid, marks)
            time.sleep(_EVERY)
    seconds = time.perf_counter() - started
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed, see {log}")
    return Cost(seconds, sum(marks.values()), max(marks.values()), _busy() - before)


def _busy() -> float:
    """Seconds of cores that processes took which this one started and has waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def look(root: int, marks: dict[int, int]) -> None:
    """Note the marks of `root` and of its descendants."""
    waiting = [root]
    while waiting:
        pid = waiting.pop()
        try:
            status = Path(f"/proc/{pid}/status").read_text()
            for task in Path(f"/proc/{pid}/task").iterdir():
                waiting += map(int, (task / "children").read_text().split())
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended meanwhile
        line = next((line for line in status.splitlines() if line.startswith("VmHWM:")), None)
        if line is not None:  # one that has ended and was not waited for has none
            marks[pid] = max(marks.get(pid, 0), int(line.split()[1]) * 1024)
