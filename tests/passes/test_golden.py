"""Every pass on small graphs: what it makes of them, as text and in numbers, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from graphopt.ir import infer_types, parse
from graphopt.pipeline import RunResult
from graphopt.plugins import registry, run_recipe
from graphopt.recipes import Budget, Recipe, Step
from graphopt.testing import Golden, goldens
from tests._cache import ROOT

FOLDER = ROOT / "tests" / "golden"
GOLDENS = goldens(FOLDER)
APPLIED = [g for g in GOLDENS if g.after is not None]
REFUSED = [g for g in GOLDENS if g.after is None]


@pytest.mark.parametrize("golden", GOLDENS, ids=str)
def test_golden(golden: Golden) -> None:
    golden.check()


@pytest.mark.parametrize("name", registry.passes())
def test_every_built_in_pass_has_golden_files_of_both_kinds(name: str) -> None:
    if not registry.passes()[name].__module__.startswith("graphopt_passes"):
        pytest.skip("another distribution's pass")
    if registry.passes()[name].decides_only:
        assert not any(g.header["pass"] == name for g in APPLIED)
        return
    assert any(g.header["pass"] == name for g in APPLIED)
    assert any(g.header["pass"] == name for g in REFUSED)


def test_every_refusal_has_a_reason_of_its_own() -> None:
    """A pass that has nothing to say is `unmatched`: `refuses` tells its own refusal from the engine's."""
    said = {g.path: g.path.read_text().partition("--- refuses\n")[2].strip() for g in REFUSED}
    silent = {g.path for g in REFUSED if g.path.read_text().rstrip().endswith("--- unmatched")}
    assert {path for path, reason in said.items() if not reason} == silent


def test_files_lie_in_the_folder_of_their_pass() -> None:
    assert {(g.path.parent.name, g.header["pass"]) for g in GOLDENS} == {
        (g.path.parent.name, g.path.parent.name) for g in GOLDENS
    }
    assert all(path.suffix == ".txt" for path in FOLDER.glob("*/*"))


@pytest.mark.parametrize("golden", GOLDENS, ids=str)
def test_an_inner_value_may_be_an_output_too(golden: Golden) -> None:
    """Each of them in turn: the pass raises nothing, and leaves it there."""
    name = golden.header["pass"]
    recipe = Recipe("exposed", "", Budget(), (Step(name, golden.options(name)),))
    for inner in [v.name for node in golden.model().graph for v in node.outputs if not v.is_graph_output()]:
        model = golden.model()
        infer_types(model)
        exposed = next(v for node in model.graph for v in node.outputs if v.name == inner)
        if inner and exposed.type is not None:
            model.graph.outputs.append(exposed)
            run_recipe(model, recipe, golden.context(model))
            assert inner in [output.name for output in model.graph.outputs]


SCALED = """<ir_version: 10, opset_import: ["" : 23]>
g (float[B,4] x) => (float[B,4] y)
<float[1] c = {%s}>
{
  y = Mul(x, c)
}
"""


@pytest.mark.parametrize(("factor", "same"), [("1.0", True), ("1.01", False), ("-1.0", False)])
def test_the_numbers_decide(factor: str, same: bool) -> None:
    header = {"pass": "raise-silu", "bind": "B=2; B=3"}
    golden = Golden(Path("fault"), header, SCALED % "1.0", "")

    differences = golden.differences(parse(SCALED % factor), RunResult())

    assert (differences == {}) is same
    exact = replace(golden, header={**header, "pass": "cse"})
    assert (exact.differences(parse(SCALED % factor), RunResult()) == {}) is same
