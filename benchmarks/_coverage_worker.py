"""One net of coverage.py in this process: its packages made, compared and timed; prints a row as JSON."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import onnx

import graphopt
from graphopt.errors import GraphoptError
from graphopt.metrics import cosine_similarity, median
from graphopt.runtime import open_session

ROUNDS = 21
"""Of a few calls each: enough for an interval of a median of ratios."""
_SHARE = 7
"""Rounds after which sessions are opened anew: where memory comes to lie differs from one to the next."""
_PIECE = 0.006
"""Seconds that the calls of one round take: long beside what a timer is off by."""
_SEED = 20261128
"""Any one will do."""
_CALLS = 8
"""To calibrate on: as many as the method of ranges asks for. Nets of random weights need no more."""
_QUANTIZED = ("Quant", "Integer", "NBits", "QLinear")
Feeds = dict[str, np.ndarray[Any, Any]]
Session = Any


def main() -> None:
    folder = Path(sys.argv[1])
    calls = {name: _feeds(folder / f"{name}.npz") for name in ("small", "large")}
    row: dict[str, Any] = _weighed(folder, "")
    made: dict[str, Callable[[], Session]] = {"": lambda: open_session(folder / "model.onnx", threads=1)}
    for recipe in ("lossless", "int8"):
        try:
            package = _package(folder, recipe, calls["small"])
        except GraphoptError as error:
            row[f"{recipe}_refused"] = " ".join(f"{type(error).__name__}: {error}".split())[:160]
            continue
        row |= _weighed(package.path, f"{recipe}_")
        if recipe == "int8" and (reasons := _left_out(package)):
            row["int8_left_out"] = reasons
        if recipe == "lossless" or row["int8_quantized"]:
            made[f"{recipe}_"] = lambda package=package: package.session(threads=1)
    if (folder / "slim.onnx").is_file():
        row |= _weighed(folder, "slim_", "slim.onnx")
        made["slim_"] = lambda: open_session(folder / "slim.onnx", threads=1)
    row |= _errors(made, calls)
    row |= _speeds(
        {name: open_ for name, open_ in made.items() if f"{name}failed" not in row}, calls["large"]
    )
    print(json.dumps(row, default=dataclasses.asdict))


def _feeds(path: Path) -> Feeds:
    with np.load(path) as arrays:
        return dict(arrays)


def _package(folder: Path, recipe: str, small: Feeds) -> graphopt.Package:
    """As a user makes it who knows what one call looks like, and has a few to calibrate on."""
    inputs = str(folder / "small.npz")
    options = {"calibration": _calibration(folder, small)} if recipe == "int8" else {}
    source = str(folder / "model.onnx")
    return graphopt.optimize(
        source, str(folder / recipe), recipe=recipe, inputs=inputs, force=True, cache=False, **options
    )


def _left_out(package: graphopt.Package) -> str:
    """Why passes that compress were left out, by measurement."""
    report = json.loads((package.path / "report.json").read_text())
    return "; ".join(note for note in report["notes"] if note.startswith("with "))[:300]


def _calibration(folder: Path, small: Feeds) -> str:
    """A folder of calls like `small`, whose floats are drawn anew."""
    rng, out = np.random.default_rng(_SEED), folder / "calibration"
    out.mkdir(exist_ok=True)
    for number in range(_CALLS):
        drawn = {
            name: rng.standard_normal(a.shape).astype(a.dtype) if a.dtype.kind == "f" and a.ndim else a
            for name, a in small.items()
        }
        np.savez(out / f"{number}.npz", **drawn)
    return str(out)


def _weighed(folder: Path, prefix: str, name: str = "model.onnx") -> dict[str, Any]:
    """Nodes and bytes of a graph and its data file."""
    model = onnx.load(folder / name, load_external_data=False)
    files = [path for path in (folder / name, folder / f"{name}.data") if path.is_file()]
    types = [node.op_type for node in _nodes(model.graph.node, _functions(model))]
    found = {f"{prefix}nodes": len(types), f"{prefix}bytes": sum(path.stat().st_size for path in files)}
    if prefix == "int8_":
        found["int8_quantized"] = sum(any(part in one for part in _QUANTIZED) for one in types)
    return found


def _functions(model: onnx.ModelProto) -> dict[tuple[str, str], onnx.FunctionProto]:
    return {(function.domain, function.name): function for function in model.functions}


def _nodes(nodes: Any, functions: Mapping[tuple[str, str], onnx.FunctionProto]) -> list[onnx.NodeProto]:
    """All that a graph has, those of subgraphs too; those of a function as often as it is called."""
    found = []
    for node in nodes:
        called = functions.get((node.domain, node.op_type))
        found += [node] if called is None else _nodes(called.node, functions)
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                found += _nodes(graph.node, functions)
    return found


def _errors(made: Mapping[str, Callable[[], Session]], calls: Mapping[str, Feeds]) -> dict[str, Any]:
    """The worst difference from the source over both calls, in standard deviations of the source's output.

    Each call is the first of its session: what draws numbers from a seed then draws the same ones.
    """
    row: dict[str, Any] = {}
    expected = {name: made[""]().run(None, feeds) for name, feeds in calls.items()}
    for variant, open_ in made.items():
        if not variant:
            continue
        try:
            found = {name: open_().run(None, feeds) for name, feeds in calls.items()}
        except Exception as error:  # onnxruntime's are of many kinds
            row[f"{variant}failed"] = " ".join(str(error).split())[:160]
            continue
        pairs = [pair for name in calls for pair in zip(expected[name], found[name], strict=True)]
        worst = max(_off(a, b) for a, b in pairs)
        row[f"{variant}error"] = worst if math.isfinite(worst) else "differs"
        row[f"{variant}cosine"] = min((_cosine(a, b) for a, b in pairs if a.dtype.kind == "f"), default=1.0)
    return row


def _off(expected: np.ndarray[Any, Any], found: np.ndarray[Any, Any]) -> float:
    """Infinite where shapes, values that are no floats, or places of those that are not finite differ."""
    if expected.shape != found.shape or expected.dtype != found.dtype:
        return float("inf")
    if expected.dtype.kind != "f":
        return 0.0 if np.array_equal(expected, found) else float("inf")
    finite = np.isfinite(expected)
    if not np.array_equal(finite, np.isfinite(found)):
        return float("inf")
    expected, found = expected[finite], found[finite]
    if not expected.size:
        return 0.0
    return float(
        np.abs(expected - found).max() / max(float(expected.std()), float(np.finfo(np.float32).tiny))
    )


def _cosine(expected: np.ndarray[Any, Any], found: np.ndarray[Any, Any]) -> float:
    """The lowest of the rows, as a recipe's budget counts it."""
    if expected.shape != found.shape or not expected.size:
        return 1.0 if expected.shape == found.shape else 0.0
    rows = (
        array.reshape(len(array), -1) if array.ndim else array.reshape(1, 1) for array in (expected, found)
    )
    return float(cosine_similarity(*rows).min())


def _speeds(openings: Mapping[str, Callable[[], Session]], feeds: Feeds) -> dict[str, Any]:
    """Milliseconds of a call, and how many times as fast as the source each is; that takes part twice."""
    openings = {**openings, "again_": openings[""]}
    times: dict[str, list[float]] = {name: [] for name in openings}
    for number in range(ROUNDS):
        if number % _SHARE == 0:
            sessions = {name: open_() for name, open_ in openings.items()}
            steps = {name: (lambda s=session: s.run(None, feeds)) for name, session in sessions.items()}
            counts = {name: _count(step) for name, step in steps.items()}
        for name in steps if number % 2 else reversed(steps):
            times[name].append(_seconds(steps[name], counts[name]) * 1e3)
    row: dict[str, Any] = {
        f"{name}ms": float(np.median(found)) for name, found in times.items() if name != "again_"
    }
    for name in openings:
        if name:
            ratios = [a / b for a, b in zip(times[""], times[name], strict=True)]
            row[f"{name}speed"] = median(ratios)
    return row


def _count(step: Callable[[], object]) -> int:
    _seconds(step, 2)
    return max(1, int(_PIECE / _seconds(step, 3)))


def _seconds(step: Callable[[], object], count: int) -> float:
    """Of one call, the shortest of `count`: others that run meanwhile lengthen all but that."""
    least = float("inf")
    for _ in range(count):
        begun = time.perf_counter()
        step()
        least = min(least, time.perf_counter() - begun)
    return least


if __name__ == "__main__":
    main()
