"""The built-in passes are held to what a stranger's are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from graphopt.cli._main import run
from graphopt.plugins import registry


@pytest.mark.slow
def test_the_built_in_passes_conform(tmp_path: Path) -> None:
    code = run(["passes", "check", "graphopt", "--quiet", "--json", str(tmp_path / "found.json")])
    found = json.loads((tmp_path / "found.json").read_text())["passes"]

    assert {p["name"] for p in found} == registry.passes().keys()
    assert not [(p["name"], q["promise"]) for p in found for q in p["problems"]]
    assert all(p["changed"] or registry.passes()[p["name"]].decides_only for p in found)
    assert code == 0
