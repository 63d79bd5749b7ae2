"""A plugin's pass that changes the interface brings an adapter of its own, and packages open with it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from tests.plugins.conftest import Environment

RENAMES = """
from dataclasses import dataclass
import onnx_ir as ir
from graphopt.interface import Adapter
from graphopt.pipeline import Contract, Edit, Level, Pass
from graphopt.plugins import Pack
@dataclass(frozen=True)
class Renamed(Adapter):
    kind = "renamed"
    names: tuple[tuple[str, str], ...]
    def feeds(self, old):
        names = dict(self.names)
        return {names.get(name, name): array for name, array in old.items()}
class RenameX(Pass):
    "The input x is called value."
    name, level, contract, main_graph_only = "rename-x", Level.IMPROVE, Contract.exact(), True
    def edits(self, graph, context):
        for old in tuple(graph.inputs):
            if old.name == "x":
                new = ir.Value(name="value", shape=old.shape, type=old.type)
                yield Edit("x is value", replace={old: new}, drop_inputs=[old], add_inputs=[new],
                           adapter=Renamed((("x", "value"),)))
PACK = Pack(passes=(RenameX,))
"""
MODEL = """
import onnx, onnx.parser, numpy
model = onnx.parser.parse_model('''<ir_version: 10, opset_import: ["" : 23]>
g (float[N] x) => (float[N] y) { a = Relu(x)  y = Neg(a) }''')
onnx.save(model, "model.onnx")
numpy.savez("inputs.npz", x=numpy.arange(-2, 2, dtype=numpy.float32))
open("recipe.toml", "w").write('description = "d"\\n[[pass]]\\nname = "rename-x"\\n')
"""


def test_from_optimize_to_validate(
    pretend: Callable[..., Environment], with_sample: Environment, tmp_path: Path
) -> None:
    environment = pretend("graphopt-renames", RENAMES)
    assert environment.run("-c", MODEL, cwd=tmp_path).returncode == 0
    given = ("--recipe", "recipe.toml", "--inputs", "inputs.npz")
    made = environment.graphopt("optimize", "model.onnx", "-o", "out", *given, cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    manifest = json.loads((tmp_path / "out" / "graphopt.json").read_text())
    assert [edit["verdict"] for edit in report["passes"][0]["edits"]] == ["proven"]
    assert report["closing"]["verdict"] == "passed"
    assert manifest["adapters"] == [
        {"kind": "renamed", "names": [["x", "value"]], "plugin": "graphopt-renames"}
    ]

    validate = ("validate", "out", "--reference", "model.onnx", "--data", "inputs.npz")
    assert environment.graphopt(*validate, cwd=tmp_path).returncode == 0

    without = with_sample.graphopt(*validate, cwd=tmp_path)
    assert without.returncode == 4
    assert "adapter 'renamed', which is of the plugin graphopt-renames" in without.stderr
    (tmp_path / "graphopt.toml").write_text("[plugins]\nallow = []\n")
    left_out = environment.graphopt(*validate, cwd=tmp_path)
    assert left_out.returncode == 4
    assert "plugin 'graphopt-renames' of graphopt-renames 0.1 is left out" in left_out.stderr
