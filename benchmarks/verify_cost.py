"""What checking every edit costs: time and memory of `optimize` with and without it, in turn.

    python benchmarks/verify_cost.py build/llama-1b --rounds 3

Each round makes the package with `--verify off` and with `--verify numeric` (and off again: the A/A control),
without the closing check. With `--before PYTHON`, the interpreter of an environment with another version of
graphopt, that version makes it with `off` and `numeric` in the same rounds. Memory is the largest sum of
the resident sizes of the process and its worker, sampled ten times a second. What was found is merged into
benchmarks/results/verify_cost.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
from _provenance import here
from _results import Row, Table, option, record
from _rounds import interval, table

from graphopt.metrics import Estimate


def resident(pid: int) -> int:
    """Bytes that a process and its children hold now."""
    total = 0
    waiting = [pid]
    while waiting:
        current = waiting.pop()
        try:
            status = Path(f"/proc/{current}/smaps_rollup").read_text()
            waiting += map(int, Path(f"/proc/{current}/task/{current}/children").read_text().split())
        except (OSError, ProcessLookupError):
            continue
        total += next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("Pss:"))
    return total


def make(source: Path, out: Path, recipe: str, verify: str, python: str) -> dict[str, float]:
    command = [
        python, "-P", "-m", "graphopt", "optimize", str(source), "-o", str(out), "--recipe", recipe,
        "--verify", verify, "--no-validate", "--no-cache", "--force", "--quiet",
    ]  # fmt: skip
    started = time.perf_counter()
    process = subprocess.Popen(command)
    peak = 0
    while process.poll() is None:
        peak = max(peak, resident(process.pid))
        time.sleep(0.1)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed")
    return {"seconds": time.perf_counter() - started, "peak_mb": peak / 1e6}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("--recipe", default="int4")
    parser.add_argument("--work", type=Path, default=Path("build/verify-cost"))
    parser.add_argument("--rounds", type=int, default=3)
    option(parser, "verify_cost")
    parser.add_argument("--before", metavar="PYTHON", help="an interpreter that has another graphopt")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    out = args.work / "package"
    ways = {"off": sys.executable, "numeric": sys.executable, "off again": sys.executable}
    if args.before:
        ways |= {"numeric before": args.before, "off before": args.before}
    found: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    for number in range(args.rounds):
        for name in ways if number % 2 == 0 else reversed(ways):
            found[name].append(make(args.source, out, args.recipe, name.split()[0], ways[name]))
            print(number, name, found[name][-1], file=sys.stderr)
            if name == "numeric":
                report = json.loads((out / "report.json").read_text())
    edits = [e for step in report["passes"] for e in step["edits"] if e["outcome"] == "applied"]
    tables = tables_of(args, found, Counter(e["verdict"] for e in edits))
    texts = [
        [str(row["way"]), f"{row['seconds']:.1f}", f"{row['peak_gb']:.1f}", interval(row.get("above_off"), 1)]
        for row in tables[0].rows
    ]
    print(table(["", "seconds", "peak GB", "seconds above off"], texts))
    print(f"\n{len(edits)} edits: " + ", ".join(f"{row['edits']} {row['verdict']}" for row in tables[1].rows))
    record(args.json, tables)


def tables_of(
    args: argparse.Namespace, found: dict[str, list[dict[str, float]]], verdicts: Counter[str]
) -> list[Table]:
    """What results keep; `off` is what others are compared with."""
    rows: list[Row] = []
    for name, runs in found.items():
        seconds, peak = (float(np.median([run[key] for run in runs])) for key in ("seconds", "peak_mb"))
        row: Row = {"way": name, "seconds": seconds, "peak_gb": peak / 1000}
        off = "off before" if "before" in name else "off"
        if name != off:
            more = [a["seconds"] - b["seconds"] for a, b in zip(runs, found[off], strict=True)]
            row["above_off"] = Estimate(float(np.median(more)), min(more), max(more))
        rows.append(row)
    cell, about = {"source": args.source.name, "recipe": args.recipe}, here(rounds=args.rounds)
    least = "least and most of the rounds' differences, which says little of how far others would be off"
    base = ("off", "off again", "off before")
    counts: list[Row] = [{"verdict": verdict, "edits": n} for verdict, n in sorted(verdicts.items())]
    return [
        Table(name="seconds", cell=cell, key="way", base=base, interval=least, rows=rows, **about),
        Table(name="edits", cell=cell, key="verdict", rows=counts, **about | {"rounds": None}),
    ]


if __name__ == "__main__":
    main()
