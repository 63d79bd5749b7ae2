"""How far off what is told of sizes is: memory, bytes of packages, and how long they take to load."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np
from _predict_tables import estimate
from _predicting import Point, held, off, work
from _provenance import here
from _results import Row, Table

from graphopt.cost import GraphWork, Situation, data_bytes, package_interval, predict, with_forms
from graphopt.machine import Interval, Profile
from graphopt.planner import planned_source
from graphopt.planner._recipes import Storing
from graphopt.plugins import load_recipe, with_options
from graphopt.recipes import recipe_toml

_OURS = "the interval that nine of ten measurements are expected in"
_METRICS = {"peak_memory": 1e-6, "load_time": 1e3}
_EQUAL = "norm.weight"
"""Weights that the made-up models have ones in, all of them: they are stored once."""


class Made(Protocol):
    """A recipe with settings, and what it is called here."""

    name: str
    recipe: str
    settings: tuple[str, ...]


def held_tables(profile: Profile, points: Sequence[Point], folder: Path, new: int) -> list[Table]:
    """Peak memory and seconds to load of packages at FOLDER/SHAPE/RECIPE, told from their graphs, beside what
    `graphopt bench` measured with a prompt and `new` tokens; of each the medians of what it is off by."""
    tables, medians = [], []
    for metric, scale in _METRICS.items():
        unit = "mb" if metric == "peak_memory" else "ms"
        rows: list[Row] = []
        pairs: list[tuple[Interval, float]] = []
        for p in points:
            situation = Situation(p["prompt"], new, 1, p["threads"])
            told = predict(work(folder / p["shape"] / p["recipe"]), profile, situation).metrics[metric]
            pairs.append((told, p[metric]))
            rows.append(
                {
                    "point": f"{p['shape']}, {p['recipe']}, {p['prompt']} tokens",
                    f"predicted_{unit}": estimate(told, scale),
                    f"measured_{unit}": p[metric] * scale,
                    "off_percent": off(told, p[metric]),
                    "held": held(told, p[metric]),
                }
            )
        tables.append(Table(name=metric, key="point", interval=_OURS, rows=rows, **here()))
        errors = [abs(off(*pair)) for pair in pairs]
        medians.append(
            {
                "what": metric,
                "points": len(pairs),
                "median_error_percent": float(np.median(errors)),
                "largest_error_percent": max(errors),
                "coverage_percent": 100 * float(np.mean([held(*pair) for pair in pairs])),
            }
        )
    return [*tables, Table(name="held", key="what", rows=medians, **here())]


def size_table(made: Iterable[tuple[str, Made, Path]], models: Path) -> Table:
    """Bytes of packages, told from config.json and the recipe alone, beside those of their files."""
    rows: list[Row] = []
    for shape, one, package in made:
        source = models / shape if (models / shape).is_dir() else Path(shape)
        told = _told(str(source), one, alike=source.is_dir())
        whole = package_interval(told)
        files = sum(path.stat().st_size for path in package.rglob("*") if path.is_file())
        weights = (package / "model.onnx.data").stat().st_size
        rows.append(
            {
                "package": f"{shape}, {one.name}",
                "weights_bytes": weights,
                "weights_off_bytes": data_bytes(told) - weights,
                "predicted_mb": estimate(whole, 1e-6),
                "measured_mb": files / 1e6,
                "off_percent": off(whole, files),
                "held": held(whole, files),
            }
        )
    note = "norms of models that are made up are all ones, and are stored once: so they are told here"
    return Table(
        name="package_bytes",
        key="package",
        rows=rows,
        interval="how much may be written about a package; weights are counted",
        notes=[note],
        **here(),
    )


def _told(source: str, one: Made, *, alike: bool) -> GraphWork:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "asked.toml"
        file.write_text(recipe_toml(with_options(load_recipe(one.recipe), one.settings)), encoding="utf-8")
        storing, work = Storing(str(file)), planned_source(source).work
        found = with_forms(work, storing.forms(work), storing.cache_bits())
    if not alike:
        return found
    norms = [weight for weight in found.weights if weight.name.endswith(_EQUAL)]
    others = tuple(weight for weight in found.weights if weight not in norms[1:])
    return replace(found, weights=others)
