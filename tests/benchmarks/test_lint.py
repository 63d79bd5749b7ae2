"""What rules say that a cliff costs is what was measured."""

from __future__ import annotations

import json

import pytest

from graphopt.plugins import registry
from tests._cache import ROOT

TABLES = json.loads((ROOT / "benchmarks/results/lint.json").read_text())["tables"]
RATIOS = {row["model"]: row["ratio"] for table in TABLES for row in table["rows"]}


@pytest.mark.parametrize(
    ("code", "model"),
    [
        ("GO101", "accuracy level 0, 4 bits"),
        ("GO101", "accuracy level 0, 8 bits"),
        ("GO102", "zero points in floats"),
        ("GO104", "g_idx, 4 bits"),
        ("GO105", "2 bits in blocks of 256"),
        ("GO107", "Swish"),
        ("GO108", "DequantizeLinear, Transpose, MatMul"),
        ("GO201", "an optimum-style int8 file"),
        ("GO203", "an optimum-style int8 file"),
    ],
)
def test_figures_of_rules_are_of_the_results(code: str, model: str) -> None:
    assert f"{RATIOS[model]:.2g} times" in registry.rules()[code].why


def test_models_were_mended_whole() -> None:
    mended = [row for table in TABLES if table["name"] == "mended" for row in table["rows"]]
    assert {row["closing"] for row in mended} == {"passed"}
    # Level 4, which counted for nothing beside zero points in floats, is another rule's.
    assert {row["model"] for row in mended if row["left"]} == {"zero points in floats"}
