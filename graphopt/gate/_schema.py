"""The JSON schema of graphopt.toml, by which editors complete and check gates."""

from __future__ import annotations

import re
from typing import Any

from graphopt.gate._config import OPTIONS, GateSettings
from graphopt.metrics import METRICS, SAID, UNITS, Metric

__all__ = ["config_schema"]

_GATES = (
    'What a package is held to: METRIC = "OPERATOR BOUND". '
    "A bound with the unit x is a multiple of the baseline's value."
)
_NUMBER = r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?"


def config_schema() -> dict[str, Any]:
    """The schema (draft 2020-12) of a graphopt.toml; pyproject.toml has the same in `[tool.graphopt]`."""
    settings = GateSettings.model_json_schema()
    settings["description"] = "What is measured on, and how a verdict is reached."
    settings["properties"]["max_time"] = {
        "default": settings["properties"]["max_time"]["default"],
        "anyOf": [
            {"type": "number", "exclusiveMinimum": 0},
            {"type": "string", "pattern": rf"^\s*{_NUMBER}\s*(us|ms|s|min)?\s*$"},
        ],
        "description": 'The longest that speed is measured, seconds or "2min".',
    }
    gates = {
        "type": "object",
        "description": _GATES,
        "properties": {key: _bounds(metric) for key, metric in METRICS.items()} | {OPTIONS: settings},
        "additionalProperties": False,
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "graphopt.toml",
        "type": "object",
        "properties": {"gates": gates},
    }


def _bounds(metric: Metric) -> dict[str, Any]:
    units = [*UNITS.get(metric.unit, {metric.unit: 1.0}), "x"]
    optional = "" if metric.unit in SAID else "?"
    way = ">=?" if metric.better == "larger" else "<=?"
    pattern = rf"^\s*({way}|==)\s*{_NUMBER}\s*({'|'.join(map(re.escape, units))}){optional}\s*$"
    bound = {"type": "string", "pattern": pattern}
    unit = f" In {metric.unit}." if metric.unit else ""
    return {
        "description": f"{metric.meaning}{unit} {metric.better.capitalize()} is better.",
        "anyOf": [bound, {"type": "array", "items": bound, "minItems": 1}],
    }
