"""What plans expect of a machine beside what is then measured there.

    python benchmarks/predict.py                       # everything: 25 minutes, after packages are made
    python benchmarks/predict.py --only make           # the packages
    python benchmarks/predict.py --only show           # from what was measured before

Packages of three shapes in several recipes are measured in several situations, probes of memory in turns with
them, and predicted from their graphs and the profile of this machine alone (`graphopt targets profile`):
nothing is fitted to models. So that no shape is helped by sizes that the profile happens to share with it,
each is predicted once more from a profile without them ("left out"). Cheap points are single products and
attentions at sizes drawn at random. All that was measured is kept in WORK: a run that was killed goes on.
What was found is merged into benchmarks/results/predict.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from _predict_sizes import held_tables, size_table
from _predict_tables import point_tables, ranking, summary
from _predicting import Point, cheap_told, told
from _recipes import HERE, graphopt
from _results import option, record
from _rounds import deadline, stamp, table_of
from make_model import SHAPES, write

from graphopt.machine import known_profile
from graphopt.plugins import registry

NEAREST = "quantize-weights.rounding=nearest"
"""Speed does not depend on how weights are rounded."""


@dataclass(frozen=True)
class Made:
    """A recipe as it is made here. `plans`: a shape of many plans has it, too."""

    name: str
    recipe: str
    settings: tuple[str, ...] = ()
    plans: bool = False


def blocks(size: int) -> tuple[str, ...]:
    return (NEAREST, f"quantize-weights.block_size={size}")


RECIPES = (
    Made("int4", "int4", blocks(128)),
    Made("int4-32", "int4", blocks(32)),
    Made("int8", "int8"),
    Made("lossless", "lossless"),
    Made("int4-64", "int4", blocks(64), plans=True),
    Made("int4-256", "int4", blocks(256), plans=True),
    Made("int4-kv8", "int4-kv8", blocks(128), plans=True),
    Made("int8-128", "int8", ("quantize-weights.block_size=128",), plans=True),
)
MANY = "smollm2-135m"
"""The shape of which many plans are ranked."""
SITUATIONS = {
    "tiny-coder": ("1x32", "1x256", "4x64", "8x32"),
    MANY: ("1x32", "1x256", "1x2048", "4x128", "8x32"),
    "llama-3.2-1b": ("1x32", "1x256", "4x64", "8x32"),
}
"""Texts x tokens of each one's prompt."""
THREADS = (1, 2)
ROUNDS = 2
"""Processes that measure the same, a whole round of all other points between them: on a virtual machine what
takes less than a millisecond takes up to half as long again some minutes later.
"""
PROMPTS = (32, 256)
"""Of which the most memory is looked at."""
NEW = 32
MEASURED = ("ttft", "tpot", "bandwidth", "bandwidth_prompt", "pulse")


def recipes(shape: str) -> list[Made]:
    return [one for one in RECIPES if shape == MANY or not one.plans]


def make(args: argparse.Namespace) -> None:
    for shape in args.shape:
        source = Path(shape)
        if shape in SHAPES:
            source = args.models / shape
            if not (source / "config.json").is_file():
                write(source, shape)
        for one in recipes(shape):
            out = args.work / shape / one.name
            if not (out / "graphopt.json").is_file():
                print(f"making {out}", file=sys.stderr, flush=True)
                out.parent.mkdir(parents=True, exist_ok=True)
                subprocess.run(
                    graphopt(one.recipe, *one.settings)(source, out), check=True, stdout=subprocess.DEVNULL
                )


def kept(path: Path) -> list[Point]:
    """Whole lines: a kill may have cut the last one."""
    text = path.read_text() if path.is_file() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def add(path: Path, lines: Sequence[str], **more: Any) -> None:
    with path.open("a") as file:
        file.writelines(json.dumps(more | json.loads(line)) + "\n" for line in lines)


def run(script: str, *words: object, environment: Sequence[str] = ()) -> list[str]:
    command = [*environment, sys.executable, str(HERE / script), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stderr, file=sys.stderr)
        raise SystemExit(f"{' '.join(command)} failed")
    return [line for line in done.stdout.splitlines() if line.startswith("{")]


Packages = list[tuple[str, Made, Path]]


def packages(args: argparse.Namespace) -> Packages:
    """Those that were made."""
    every = ((shape, one, args.work / shape / one.name) for shape in args.shape for one in recipes(shape))
    return [made for made in every if (made[2] / "graphopt.json").is_file()]


def measure(args: argparse.Namespace) -> bool:
    """Whether everything is there."""
    in_time, made = deadline(args.minutes), packages(args)
    whole = len(made) == sum(len(recipes(shape)) for shape in args.shape)
    parts = [
        partial(_points, args, made, threads, number) for number in range(ROUNDS) for threads in args.threads
    ]
    parts[1:1] = [partial(_cheap, args), partial(_memory, args, made)]
    return all(part(in_time) for part in parts) and whole


def _points(
    args: argparse.Namespace, made: Packages, threads: int, number: int, in_time: Callable[[], bool]
) -> bool:
    path = args.work / "points.jsonl"
    for shape, one, package in made:
        mark = stamp(package / "model.onnx", HERE / "_predict_worker.py")
        have = {
            f"{p['batch']}x{p['prompt']}"
            for p in kept(path)
            if (p["shape"], p["recipe"], p["threads"], p["made"], p["round"])
            == (shape, one.name, threads, mark, number)
        }
        wanted = [s for s in SITUATIONS[shape] if s not in have and (not one.plans or s == "1x256")]
        if wanted and not in_time():
            return False
        if wanted:
            print(f"{shape} {one.name}, {threads} threads", file=sys.stderr, flush=True)
            words = (package, "--threads", threads, *wanted)
            lines = run("_predict_worker.py", *words)
            add(path, lines, shape=shape, recipe=one.name, made=mark, round=number)
    return True


def means(points: Sequence[Point]) -> list[Point]:
    """Of the same situation in several rounds the means."""
    same: dict[tuple[Any, ...], list[Point]] = {}
    for one in points:
        key = tuple(one[name] for name in ("shape", "recipe", "threads", "batch", "prompt", "made"))
        same.setdefault(key, []).append(one)
    return [
        ones[0] | {name: float(np.mean([one[name] for one in ones])) for name in MEASURED}
        for ones in same.values()
    ]


def _memory(args: argparse.Namespace, made: Packages, in_time: Callable[[], bool]) -> bool:
    path = args.work / "memory.jsonl"
    for shape, one, package in made:
        mark = stamp(package / "model.onnx")
        for prompt in () if one.plans else PROMPTS:
            same = (shape, one.name, prompt, mark)
            if any((p["shape"], p["recipe"], p["prompt"], p["made"]) == same for p in kept(path)):
                continue
            if not in_time():
                return False
            found = json.dumps(bench_worker(package, prompt))
            add(path, [found], shape=shape, recipe=one.name, made=mark, prompt=prompt)
    return True


def _cheap(args: argparse.Namespace, in_time: Callable[[], bool]) -> bool:
    path = args.work / "cheap.jsonl"
    for seed in range(args.seeds):
        if any(p["seed"] == seed for p in kept(path)):
            continue
        if not in_time():
            return False
        add(path, run("_predict_cheap.py", "--count", 60, "--seed", seed), seed=seed)
    return True


def bench_worker(package: Path, prompt: int) -> Point:
    """Peak memory and seconds to load, as `graphopt bench` measures them."""
    from graphopt.evaluate._measurable import words
    from graphopt.evaluate._processes import measured

    asked = ("load_time", "peak_memory", "tpot")
    said = words(package, asked, prompt_tokens=prompt, new_tokens=NEW, batch=1, inputs=None, threads=2)
    measured([said])  # brings the files into memory
    (found,) = measured([said])
    return {"peak_memory": found.peak_rss, "load_time": float(np.median(found.load_seconds)), "threads": 2}


def show(args: argparse.Namespace) -> None:
    profile = known_profile(registry.targets()["cpu"]())
    if profile is None:
        sys.exit("there is no profile of this machine: graphopt targets profile")
    found = list(told(profile, means(kept(args.work / "points.jsonl")), args.work))
    cheap = list(cheap_told(profile, kept(args.work / "cheap.jsonl")))
    tables = [*point_tables(found), summary(found, cheap)]
    tables += [one for one in (ranking(found, MANY),) if one is not None]
    tables += held_tables(profile, kept(args.work / "memory.jsonl"), args.work, NEW)
    tables.append(size_table(packages(args), args.models))
    for one in tables:
        if args.verbose or one.name != "points":
            print(f"\n{one.name} {one.cell or ''}\n{table_of(one.rows)}", flush=True)
    record(args.json, tables, notes=args.note)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=["make", "measure", "show"])
    parser.add_argument("--shape", nargs="+", choices=SITUATIONS, default=tuple(SITUATIONS))
    parser.add_argument("--threads", nargs="+", type=int, default=THREADS)
    parser.add_argument("--seeds", type=int, default=4, help="sixty cheap points each")
    parser.add_argument("--minutes", type=float, help="begin nothing later than this")
    parser.add_argument("--models", type=Path, default=Path("build/models"))
    parser.add_argument("--work", type=Path, default=Path("build/predict"))
    parser.add_argument("--verbose", action="store_true", help="print every point")
    parser.add_argument("--note", action="append", default=[], help="of the state of the machine, say")
    option(parser, "predict")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    if args.only in (None, "make"):
        make(args)
    if args.only in (None, "measure") and not measure(args):
        sys.exit("not all points are there yet: give the same command again")
    if args.only in (None, "show"):
        show(args)


if __name__ == "__main__":
    main()
