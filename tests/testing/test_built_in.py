"""The built-in passes are held to what a stranger's are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from graphopt import registry
from graphopt.cli._main import run

# An edit that puts a value that is an output in the place of an inner one gives it the inner one's declared
# shape, or none: graphopt.pipeline._apply.
KNOWN = {"remove-noops": ["completes"]}


@pytest.mark.slow
def test_the_built_in_passes_conform_but_for_what_is_known(tmp_path: Path) -> None:
    code = run(["passes", "check", "graphopt", "--quiet", "--json", str(tmp_path / "found.json")])
    found = json.loads((tmp_path / "found.json").read_text())["passes"]

    assert {p["name"] for p in found} == registry.passes().keys()
    assert {p["name"]: [q["promise"] for q in p["problems"]] for p in found if p["problems"]} == KNOWN
    assert all(p["changed"] for p in found)
    assert code == (1 if KNOWN else 0)
