"""Every pass on small graphs: what it makes of them, as text and in numbers, and what it refuses."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from graphopt import registry
from graphopt.ir import graph_hash, parse
from graphopt.pipeline import RunResult
from tests.passes._golden import FOLDER, Golden, goldens, rewrite

GOLDENS = goldens()
APPLIED = [g for g in GOLDENS if g.after is not None]
REFUSED = [g for g in GOLDENS if g.after is None]


@pytest.mark.parametrize("golden", APPLIED, ids=lambda g: g.name)
def test_rewritten(golden: Golden) -> None:
    ran = golden.run()

    assert ran.applied > 0
    assert ran.result.records[0].modified
    assert ran.text == golden.after, f"to accept: python -m tests.passes.test_golden {golden.path}"
    assert golden.differences(ran.model, ran.result) == {}


@pytest.mark.parametrize("golden", REFUSED, ids=lambda g: g.name)
def test_refused(golden: Golden) -> None:
    ran = golden.run()

    assert ran.applied == 0
    assert not ran.result.records[0].modified
    assert graph_hash(ran.model) == graph_hash(golden.model())
    if golden.reason:
        assert any(golden.reason in reason for reason in ran.reasons), ran.reasons


@pytest.mark.parametrize("name", registry.passes())
def test_every_built_in_pass_has_golden_files_of_both_kinds(name: str) -> None:
    if not registry.passes()[name].__module__.startswith("graphopt_passes"):
        pytest.skip("another distribution's pass")
    assert any(g.header["pass"] == name for g in APPLIED)
    assert any(g.header["pass"] == name for g in REFUSED)


def test_files_lie_in_the_folder_of_their_pass() -> None:
    assert {(g.path.parent.name, g.header["pass"]) for g in GOLDENS} == {
        (g.path.parent.name, g.path.parent.name) for g in GOLDENS
    }
    assert all(path.suffix == ".txt" for path in FOLDER.glob("*/*"))


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


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        print(rewrite(Path(argument)))
