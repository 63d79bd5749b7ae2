"""What making packages costs: seconds, and the most memory by the kernel's own high-water marks.

    python benchmarks/cost.py                          # all: 45 minutes and 27 GB of disk (estimated)
    python benchmarks/cost.py --only tiny

Each task is one `graphopt optimize`, without the cache, in a process of its own. Checkpoints of published
shapes with random weights are written to --models where they are missing. Memory is the sum of the marks of
all its processes, mapped files included. What was found is merged into benchmarks/results/cost.json.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import _configured
import numpy as np
from _peak import Cost, cost
from _provenance import here
from _results import Row, Table, option, record
from _rounds import table_of
from make_model import SHAPES, write


@dataclass(frozen=True)
class Task:
    """`source`: an embedded model, or a shape of make_model.py or _configured.py."""

    name: str
    source: str
    options: tuple[str, ...]


# Without the closing check: the goals are on making, not on running the source model in fp32 beside it.
_UNCHECKED = ("--verify", "off", "--no-validate")
TASKS = (
    Task("tiny-coder, int4", "tiny-coder", ("--recipe", "int4")),
    Task("1.24 B, int4-fast", "llama-3.2-1b", ("--recipe", "int4-fast", *_UNCHECKED)),
    # On as much text as a model of this size reads: 16 windows of 512 tokens.
    Task(
        "1.24 B, GPTQ",
        "llama-3.2-1b",
        ("--recipe", "int4", "--set", "quantize-weights.rounding=gptq", "--no-validate"),
    ),
    Task("8 B, int4-fast", "llama-3.1-8b", ("--recipe", "int4-fast", "--max-ram", "3GB", *_UNCHECKED)),
    Task("Whisper, 64 wide, 2 + 2 layers, int8", "whisper-64", ("--recipe", "int8")),
    Task("Whisper-small, int8", "whisper-small", ("--recipe", "int8", *_UNCHECKED)),
)


def command(task: Task, args: argparse.Namespace) -> list[str]:
    source = task.source
    writers = dict.fromkeys(SHAPES, write) | dict.fromkeys(_configured.SHAPES, _configured.write)
    if source in writers:
        folder = args.models / source
        if not (folder / "config.json").is_file():
            writers[source](folder, source)
        source = str(folder)
    base = [sys.executable, "-m", "graphopt", "optimize", source, "-o", str(args.work / "package")]
    return [*base, *task.options, "--no-cache", "--force", "--quiet"]


def row(task: Task, runs: Iterable[Cost], package: Path) -> Row:
    """Medians of the runs, and the bytes that were written."""
    found = list(runs)
    size = sum(path.stat().st_size for path in package.glob("*.onnx*"))
    middle = {key: float(np.median([getattr(one, key) for one in found])) for key in Cost.__annotations__}
    return {
        "task": task.name,
        "seconds": middle["seconds"],
        "processor_seconds": middle["processor"],
        "peak_gb": middle["peak"] / 1e9,
        "largest_gb": middle["largest"] / 1e9,
        "written_gb": size / 1e9,
        "options": " ".join(task.options),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="tasks whose name matches this expression")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--models", type=Path, default=Path("build/models"))
    parser.add_argument("--work", type=Path, default=Path("build/cost"))
    option(parser, "cost")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    for number, task in enumerate(one for one in TASKS if re.search(args.only, one.name)):
        words, runs = command(task, args), []
        print(" ".join(words), file=sys.stderr, flush=True)
        for _ in range(args.rounds):
            runs.append(cost(words, args.work / f"{number}.log"))
        rows.append(row(task, runs, args.work / "package"))
        record(args.json, [Table(name="cost", key="task", rows=rows, **here(rounds=args.rounds))])
        shutil.rmtree(args.work / "package")
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    print(table_of(rows))


if __name__ == "__main__":
    main()
