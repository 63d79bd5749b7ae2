"""Kills `graphopt optimize` at random moments, runs it again, and compares with an undisturbed run.

Every trial has a cache of its own. The killed run and the continued one are the same command; a trial passes
if the second ends well, its package has the same files with the same bytes (in report.json all but times,
memory and the marks of what was cached), and nothing else is left beside it.

    python benchmarks/kill.py tiny-coder --kills 50 --work build/kill
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

ASIDE = {"seconds", "check_seconds", "peak_memory", "cached", "export_cached"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("source", nargs="?", default="tiny-coder")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--recipe", default="int4")
    parser.add_argument("--no-validate", action="store_true", help="leave out the closing check")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path("build/kill"))
    asked = parser.parse_args()
    shutil.rmtree(asked.work, ignore_errors=True)
    asked.work.mkdir(parents=True)
    work = asked.work.resolve()

    def start(place: Path) -> subprocess.Popen[bytes]:
        place.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "graphopt", "optimize", asked.source, "-o", "out"]
        command += ["--recipe", asked.recipe, *(["--no-validate"] if asked.no_validate else [])]
        environment = os.environ | {"GRAPHOPT_CACHE": str(place / "cache")}
        with (place / "said").open("ab") as said:
            return subprocess.Popen(command, cwd=place, env=environment, stdout=said, stderr=said)

    began = time.perf_counter()
    if start(work / "whole").wait() != 0:
        print((work / "whole" / "said").read_text())
        return 1
    whole = time.perf_counter() - began
    print(f"undisturbed: {whole:.1f} s", flush=True)
    rng = random.Random(asked.seed)
    outcomes: Counter[str] = Counter()
    for number in range(asked.kills):
        place = work / f"{number:02}"
        while (moment := rng.uniform(0, whole)) and not is_killed(start(place), moment):
            whole = moment  # it was over already
            shutil.rmtree(place)
        phase = f"in {last_line(place / 'said')!r}"
        if (place / "out").exists():
            shutil.rmtree(place / "out")
            phase = "after the package was installed"
        done = start(place).wait()
        wrong = [f"exit code {done}"] if done else differences(work / "whole", place)
        outcomes["identical" if not wrong else "different"] += 1
        kept = sum(step["cached"] for step in passes(place)) if not done else 0
        print(
            f"{number + 1:3}  killed after {moment:5.1f} s {phase:50} {kept:2} passes cached  "
            f"{'identical' if not wrong else ', '.join(wrong)}",
            flush=True,
        )
        if not wrong:
            shutil.rmtree(place)
    print(f"{outcomes['identical']} of {asked.kills} packages identical")
    return 0 if outcomes["identical"] == asked.kills else 1


def is_killed(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Kill it after some time; false where it had ended before."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return True
    return False


def last_line(said: Path) -> str:
    return (said.read_text().splitlines() or ["nothing yet"])[-1].rstrip(" …")


def passes(place: Path) -> Any:
    return json.loads((place / "out" / "report.json").read_text())["passes"]


def differences(expected: Path, found: Path) -> list[str]:
    """Files of the package that are not as expected, and whatever is beside it and should not be."""
    beside = {p.name for p in found.iterdir()} - {"out", "cache", "said"}
    names = {p.name for folder in (expected, found) for p in (folder / "out").iterdir()} - {"report.html"}
    return sorted(beside) + sorted(
        name for name in names if content(expected / "out" / name) != content(found / "out" / name)
    )


def content(path: Path) -> Any:
    if not path.exists():
        return None
    return without_times(json.loads(path.read_text())) if path.name == "report.json" else path.read_bytes()


def without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_times(inner) for key, inner in value.items() if key not in ASIDE}
    return [without_times(inner) for inner in value] if isinstance(value, list) else value


if __name__ == "__main__":
    sys.exit(main())
