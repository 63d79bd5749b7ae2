"""The built-in passes are held to what a stranger's are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from graphopt.cli._main import run
from graphopt.pipeline import Pass
from graphopt.plugins import registry
from graphopt.testing import check_pass
from graphopt.testing._elsewhere import examples_of, passes_of

PASSES = passes_of("graphopt")


@pytest.mark.parametrize("cls", PASSES, ids=lambda cls: cls.name)
def test_a_built_in_pass_conforms(cls: type[Pass]) -> None:
    """On its examples and the corpus, and on a few of the generated graphs."""
    found = check_pass(cls, examples_of("graphopt", cls), generated=5)

    assert [str(problem) for problem in found.problems] == []
    assert found.changed or cls.decides_only


@pytest.mark.long
def test_the_built_in_passes_conform(tmp_path: Path) -> None:
    code = run(["passes", "check", "graphopt", "--quiet", "--json", str(tmp_path / "found.json")])
    found = json.loads((tmp_path / "found.json").read_text())["passes"]

    assert {p["name"] for p in found} == registry.passes().keys()
    assert not [(p["name"], q["promise"]) for p in found for q in p["problems"]]
    assert all(p["changed"] or registry.passes()[p["name"]].decides_only for p in found)
    assert code == 0
