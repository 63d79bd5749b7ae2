"""Graphs made at random, optimized at the defaults and compared: `python -m tests.corpus.generated`."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import onnx

import graphopt
from graphopt.errors import GraphoptError
from tests.corpus._check import ATOL, OUTCOMES, RTOL, _difference, _run, _said, _session
from tests.corpus._program import Program, program

BAD = ("crashed", "stopped", "refused", "differs")


def examine(made: Program) -> dict[str, str]:
    """What became of it: an `outcome` and its `reason`.

    equal | runtime: cannot run | stopped (exit code 1: a false alarm) | refused (2) | differs | crashed
    """
    content = made.model.SerializeToString()
    try:
        onnx.checker.check_model(made.model, full_check=True)
        original = _session(content)
    except Exception as error:
        return {"outcome": "runtime: cannot run", "reason": _said(error)}
    calls = [(feeds, result) for feeds in made.calls if (result := _tried(original, feeds)) is not None]
    if not calls:
        return {"outcome": "runtime: cannot run", "reason": "not on any of its inputs"}
    with tempfile.TemporaryDirectory(prefix="generated-") as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(made.model, path)
        try:
            package = graphopt.optimize(path, path.with_name("package"), recipe="lossless", cache=False)
            session = package.session(threads=1)
            for feeds, expected in calls:
                batch, length = feeds["ids"].shape
                sizes = {"B": batch, "S": length}
                if not all(a.allows_sizes(sizes) for a in package.assumptions()):
                    continue
                if found := _difference([expected], [_run(session, feeds)], RTOL, ATOL):
                    return {"outcome": "differs", "reason": f"B={batch}, S={length}: {found}"}
        except GraphoptError as error:
            return {"outcome": OUTCOMES.get(error.exit_code, "crashed"), "reason": _said(error)}
        except Exception as error:
            trace = " ".join(traceback.format_exception(error)[-2].split())
            return {"outcome": "crashed", "reason": f"{_said(error)} | {trace}"}
    return {"outcome": "equal", "reason": ""}


def _tried(session: Any, feeds: dict[str, Any]) -> list[Any] | None:
    try:
        return _run(session, feeds)
    except Exception:
        return None  # the graph does not take such sizes


def main() -> int:
    """Examine `--count` graphs, and say what was bad."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=300, help="so many graphs")
    parser.add_argument("--seed", type=int, default=0, help="which ones")
    parser.add_argument("--first", type=int, default=0, help="from this one on")
    arguments = parser.parse_args()
    outcomes: Counter[str] = Counter()
    for number in range(arguments.first, arguments.first + arguments.count):
        found = examine(program(number, arguments.seed))
        outcomes[found["outcome"]] += 1
        if found["outcome"] != "equal":
            print(number, found["outcome"], found["reason"], flush=True)
        if number % 50 == 0:
            print(number, dict(outcomes), flush=True)
    print(dict(outcomes))
    return int(any(outcomes[outcome] for outcome in BAD))


if __name__ == "__main__":
    sys.exit(main())
