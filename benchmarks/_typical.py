"""What weights of few bits usually cost in accuracy, for plans of models that nobody measured."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from _lms import LMS

PLACE = Path(__file__).parent.parent / "graphopt" / "planner" / "damages.json"
_RECIPES = {"graphopt int4": "int4", "graphopt int4-fast": "int4-fast", "graphopt int8": "int8"}
_CACHE = "graphopt int8, int8 cache"
_PLANNED = "int4"
"""The recipe that the plans of benchmarks/allocation.py are made by."""


def typical(results: Path) -> dict[Path, str]:
    """graphopt/planner/damages.json: `kl_mean` of recipes by model, of plans by bits a weight."""
    quality = _tables(results, "quality")
    recipes: dict[str, dict[str, float]] = {name: {} for name in _RECIPES.values()}
    cache: dict[str, float] = {}
    for model in LMS:
        rows = {row["peer"]: row for row in quality[model]["rows"]}
        for peer, recipe in _RECIPES.items():
            recipes[recipe][model] = rows[peer]["kl_mean"]["value"]
        cache[model] = rows[_CACHE]["kl_mean"]["value"] - recipes["int8"][model]
    plans = _tables(results, "allocation")
    (curve_model,) = plans
    curve = {
        row["plan"].removesuffix(" bits"): row["measured"]["value"] for row in plans[curve_model]["rows"]
    }
    data: dict[str, Any] = {
        "from": [f"benchmarks/results/{name}.json" for name in ("quality", "allocation", "planned")],
        "recipes": recipes,
        "cache": {"8": cache},
        "plans": {"recipe": _PLANNED, "model": curve_model, "kl_mean": curve},
        "together": _together(results),
        "drafts": _drafts(results),
    }
    return {PLACE: json.dumps(data, indent=1) + "\n"}


def _together(results: Path) -> dict[str, float]:
    """What damages on calibration text are off by from those on other text: a factor, what is left, and what
    comes on top with each e-fold between a plan's divergence and that of the package the factor is from."""
    table = next(t for t in _read(results, "allocation") if t["name"] == "plans")
    ratios = [row["measured"]["value"] / row["predicted"] for row in table["rows"]]
    factor = sorted(ratios)[len(ratios) // 2]
    off = sorted(abs(ratio / factor - 1) for ratio in ratios)
    left = round(off[int(0.9 * (len(off) - 1))], 3)
    planned = _read(results, "planned")
    (judged,) = next(t for t in planned if t["name"] == "judged")["rows"]
    beyond = [
        (abs(row["measured"] / kl - 1) - left) / abs(math.log(kl / judged["first"]))
        for row in next(t for t in planned if t["name"] == "planned")["rows"]
        for kl in (row["predicted"]["value"],)
    ]
    return {"factor": round(factor, 3), "ninety_percent": left, "drift": math.ceil(max(beyond) * 1e3) / 1e3}


def _drafts(results: Path) -> dict[str, list[float]]:
    """By length of the prompt, how many times as fast drafts were on any text."""
    found: dict[str, list[float]] = {}
    for table in _read(results, "speculate"):
        if not table["cell"]["own_words"]:
            ends = [row["times"][end] for row in table["rows"] for end in ("low", "value", "high")]
            found[str(table["cell"]["prompt"])] = [min(ends), max(ends)]
    return found


def _tables(results: Path, name: str) -> dict[str, Any]:
    kept = {"quality": "quality", "allocation": "plans"}[name]
    return {t["cell"]["model"]: t for t in _read(results, name) if t["name"] == kept}


def _read(results: Path, name: str) -> list[dict[str, Any]]:
    tables: list[dict[str, Any]] = json.loads((results / f"{name}.json").read_text(encoding="utf-8"))[
        "tables"
    ]
    return tables
