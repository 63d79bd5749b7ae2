"""Gates by the command line on this machine: a package against itself."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from _results import Row

from graphopt.gate import SPEED_BOUND

__all__ = ["accuracy_seconds", "equals"]

SOURCE = "tiny-coder"
VERDICTS = {0: "pass", 1: "fail", 3: "inconclusive"}
"""By exit code."""
WARM = 3
"""Gates of accuracy that are timed, after one that fills the caches."""


def equals(package: Path, times: int) -> Iterator[Row]:
    """The verdict on a package's speed beside its own, again and again."""
    for number in range(1, times + 1):
        verdict, seconds = _gate(package, str(package), [f"tpot <= {SPEED_BOUND}x"])
        print(f"{number}: {verdict}, {seconds:.0f} s", flush=True)
        yield {"run": str(number), "verdict": verdict, "seconds": round(seconds, 1)}


def accuracy_seconds(package: Path) -> list[Row]:
    """How long a gate of accuracy takes beside the source: the recipe's own budget."""
    found = [_gate(package, SOURCE, []) for _ in range(WARM + 1)]
    return [
        {"run": str(number), "verdict": verdict, "seconds": round(seconds, 1)}
        for number, (verdict, seconds) in enumerate(found[1:], 1)
    ]


def _gate(package: Path, baseline: str, gates: Sequence[str]) -> tuple[str, float]:
    options = [part for gate in gates for part in ("--gate", gate)]
    command = [sys.executable, "-m", "graphopt", "gate", str(package), "--baseline", baseline, *options]
    begun = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - begun
    if done.returncode not in VERDICTS:
        raise SystemExit(f"{' '.join(command)}: exit code {done.returncode}\n{done.stderr}")
    return VERDICTS[done.returncode], seconds
