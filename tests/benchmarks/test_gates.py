"""docs/gates.md says what benchmarks/results/gates.json holds, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks._gate_page import BEGIN, END, rendered
from graphopt.gate import MINIMUM_BLOCKS, MOST_BLOCKS, SPEED_BOUND
from tests._cache import ROOT

PAGE = ROOT / "docs" / "gates.md"
RESULTS = ROOT / "benchmarks" / "results" / "gates.json"


def test_the_page_is_what_the_results_render_to() -> None:
    page = PAGE.read_text(encoding="utf-8")

    assert page == rendered(page, RESULTS), "run: python benchmarks/gates.py --render"


def test_other_results_make_another_page(tmp_path: Path) -> None:
    page = PAGE.read_text(encoding="utf-8")
    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    for table in results["tables"]:
        if table["name"] == "slower":
            table["rows"][-1]["fail"]["value"] = 12.3
    other = tmp_path / "gates.json"
    other.write_text(json.dumps(results), encoding="utf-8")

    assert "12.3 % [" in rendered(page, other)


def test_what_is_not_measured_is_said_to_be_missing(tmp_path: Path) -> None:
    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    results["tables"] = [t for t in results["tables"] if t["name"] != "equals here"]
    other = tmp_path / "gates.json"
    other.write_text(json.dumps(results), encoding="utf-8")

    assert "not measured yet" in rendered(f"{BEGIN}{END}", other)


def test_what_was_simulated_is_the_default() -> None:
    tables = {t["name"]: t for t in json.loads(RESULTS.read_text(encoding="utf-8"))["tables"]}

    assert tables["no change"]["cell"] == {"bound": SPEED_BOUND, "most": MOST_BLOCKS}


@pytest.mark.parametrize(
    "words", [f"Speed: {SPEED_BOUND}x.", f"At most {MOST_BLOCKS} blocks", f"At least {MINIMUM_BLOCKS} blocks"]
)
def test_the_page_says_the_defaults(words: str) -> None:
    assert words in PAGE.read_text(encoding="utf-8")
