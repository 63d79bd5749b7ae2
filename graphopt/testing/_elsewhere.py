"""The graphs that passes make in processes whose sets and hashes are ordered otherwise."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from graphopt.errors import CheckFailed
from graphopt.pipeline import Pass
from graphopt.plugins import registry
from graphopt.testing._example import Example, corpus
from graphopt.testing._promises import result_hash
from graphopt.testing.golden import Golden, goldens

__all__ = ["examples_of", "passes_of", "unstable"]

_SEEDS = ("1", "2")


def passes_of(distribution: str) -> list[type[Pass]]:
    """The passes that an installed distribution brings."""
    return [cls for pack in registry.distribution_packs(distribution) for cls in pack.passes]


def examples_of(distribution: str, cls: type[Pass]) -> list[Golden]:
    """The golden files of an installed distribution that are for its pass `cls`."""
    packs = registry.distribution_packs(distribution)
    folders = [pack.examples for pack in packs if pack.examples is not None]
    return [g for folder in folders for g in goldens(folder) if g.header["pass"] == cls.name]


def unstable(distribution: str) -> dict[str, Example]:
    """For each pass of `distribution` that two processes disagree about, the first graph they do."""
    one, other = (_ask(distribution, seed) for seed in _SEEDS)
    found = {}
    for cls in passes_of(distribution):
        for example, a, b in zip(_graphs(distribution, cls), one[cls.name], other[cls.name], strict=True):
            if a != b:
                found[cls.name] = example
                break
    return found


def _graphs(distribution: str, cls: type[Pass]) -> Sequence[Example]:
    return [*examples_of(distribution, cls), *corpus()]


def _ask(distribution: str, seed: str) -> dict[str, list[str]]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "answer.json")  # stdout is the passes' to print to
        done = subprocess.run(
            [sys.executable, "-m", "graphopt.testing._elsewhere", distribution, path],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        if done.returncode or not path.is_file():
            last = done.stderr.strip().rpartition("\n")[2] or f"exit code {done.returncode}"
            raise CheckFailed(f"running the passes of {distribution} in another process failed: {last}")
        answer: dict[str, list[str]] = json.loads(path.read_bytes())
    return answer


def _answer(distribution: str) -> dict[str, list[str]]:
    return {
        cls.name: [result_hash(cls, example) for example in _graphs(distribution, cls)]
        for cls in passes_of(distribution)
    }


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(json.dumps(_answer(sys.argv[1])), encoding="utf-8")
