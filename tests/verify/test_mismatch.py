"""What becomes of a run in which an edit fails: it stops, or goes on without that edit."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import parser

from graphopt.cli._main import run
from graphopt.pipeline import Context, Contract, Edit, Edits, Level, Pass
from graphopt.plugins import registry

GRAPH = """
<ir_version: 10, opset_import: ["" : 23]>
g (float[N,4] x) => (float[N,4] y) { a = Add(x, x) b = Neg(a) c = Abs(b) y = Add(c, c) }
"""


class Halves(Pass):
    """v + v as v times a factor, which is wrong in the second place."""

    name, level, contract = "halves", Level.IMPROVE, Contract.exact()

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        for number, node in enumerate([n for n in graph if n.op_type == "Add"]):
            tape = ir.tape.Tape()
            factor = tape.initializer(ir.tensor(np.float32(2 + number / 1000)), f"factor-{number}")
            y = tape.op("Mul", [node.inputs[0], factor], name=f"product-{number}")
            yield Edit(
                f"sum {number}",
                remove=[node],
                insert=tape.nodes,
                initializers=tape.initializers,
                replace={node.outputs[0]: y},
            )


@pytest.fixture
def arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    known = {**registry.passes(), "halves": Halves}
    monkeypatch.setattr(registry, "passes", lambda: known)
    onnx.save(parser.parse_model(GRAPH), tmp_path / "model.onnx")
    (tmp_path / "recipe.toml").write_text('description = "mine"\n[[pass]]\nname = "halves"\n')
    files = [str(tmp_path / name) for name in ("model.onnx", "out", "recipe.toml")]
    return ["optimize", files[0], "-o", files[1], "--recipe", files[2], "--dim", "N=3"]


def reproduced(folder: Path) -> list[str]:
    """What the reproducer says of both sides."""
    (place,) = folder.iterdir()
    done = subprocess.run(
        [sys.executable, "-I", "reproduce.py"], cwd=place, capture_output=True, text=True, check=True
    )
    before, after = done.stdout.splitlines()
    return [before.removeprefix("before"), after.removeprefix("after")]


def test_it_stops(arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 1
    said = capsys.readouterr().err
    assert "pass 'halves' (exact) changes results by edit halves:" in said
    assert "To go on without such edits: --on-mismatch rollback" in said
    assert not (tmp_path / "out").exists()
    before, after = reproduced(tmp_path / "out.mismatch")
    assert before != after


def test_it_goes_on(arguments: list[str], tmp_path: Path) -> None:
    assert run([*arguments, "--on-mismatch", "rollback"]) == 0
    (record,) = json.loads((tmp_path / "out" / "report.json").read_text())["passes"]
    found = [(edit["outcome"], edit["verdict"]) for edit in record["edits"]]
    assert found == [("applied", "proven"), ("rolled back", "failed")]
    assert "not bit-equal" in record["edits"][1]["reason"]
    made = onnx.load(tmp_path / "out" / "model.onnx")
    assert [node.op_type for node in made.graph.node] == ["Mul", "Neg", "Abs", "Add"]
    before, after = reproduced(tmp_path / "out.mismatch")
    assert before != after


class FromTheInput(Pass):
    """Neg(x + x) as Neg(x * 2): equal, which only a window with the sum in it shows."""

    name, level, contract = "halves", Level.IMPROVE, Contract.exact()

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        node = next(n for n in graph if n.op_type == "Neg")
        tape = ir.tape.Tape()
        two = tape.initializer(ir.tensor(np.float32(2)), "two")
        y = tape.op("Neg", [tape.op("Mul", [graph.inputs[0], two], name="twice")], name="negative")
        yield Edit(
            "from x",
            remove=[node],
            insert=tape.nodes,
            initializers=tape.initializers,
            replace={node.outputs[0]: y},
        )


def test_nothing_stays_beside_a_package_that_succeeded(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither what an earlier run left nor what a wider window made up for; but what is the user's."""
    left = tmp_path / "out.mismatch"
    assert run(arguments) == 1
    assert len(list(left.glob("*/reproduce.py"))) == 1
    (left / "mine.txt").touch()

    known = {**registry.passes(), "halves": FromTheInput}
    monkeypatch.setattr(registry, "passes", lambda: known)
    assert run(arguments) == 0
    (record,) = json.loads((tmp_path / "out" / "report.json").read_text())["passes"]
    assert [edit["verdict"] for edit in record["edits"]] == ["proven"]
    assert [path.name for path in left.iterdir()] == ["mine.txt"]

    (left / "mine.txt").unlink()
    left.rmdir()
    assert run([*arguments, "--force"]) == 0
    assert not left.exists()
