"""A plugin's pass that changes the interface brings an adapter of its own, and packages open with it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.plugins.conftest import Environment

PROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "graphopt-renames"
version = "0.1"
[project.entry-points."graphopt.passes"]
graphopt-renames = "graphopt_renames:PACK"
[tool.setuptools]
py-modules = ["graphopt_renames"]
"""
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
numpy.savez("values.npz", value=numpy.arange(-2, 2, dtype=numpy.float32))
open("recipe.toml", "w").write('description = "d"\\n[[pass]]\\nname = "rename-x"\\n')
"""
OPTIMIZE = ("optimize", "model.onnx", "-o", "out", "--recipe", "recipe.toml", "--inputs", "inputs.npz")
VALIDATE = ("validate", "out", "--reference", "model.onnx", "--data", "inputs.npz")


@pytest.fixture(scope="module")
def renames(tmp_path_factory: pytest.TempPathFactory, warm_programs: Path) -> Environment:
    """An environment in which pip has installed the plugin."""
    folder = tmp_path_factory.mktemp("renames")
    source = folder / "source"
    source.mkdir()
    (source / "pyproject.toml").write_text(PROJECT)
    (source / "graphopt_renames.py").write_text(RENAMES)
    made = Environment.create(folder / "venv")
    made.install(source)
    made.programs = warm_programs
    return made


def read(folder: Path, name: str) -> dict[str, Any]:
    """A JSON file of the package at `folder`/out."""
    found: dict[str, Any] = json.loads((folder / "out" / name).read_text())
    return found


def test_every_command_works_with_an_installed_plugins_adapter(renames: Environment, tmp_path: Path) -> None:
    def graphopt(*arguments: str) -> str:
        done = renames.graphopt(*arguments, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert renames.run("-c", MODEL, cwd=tmp_path).returncode == 0
    graphopt(*OPTIMIZE)
    report, manifest = read(tmp_path, "report.json"), read(tmp_path, "graphopt.json")
    ((edit,),) = [step["edits"] for step in report["passes"]]
    assert (edit["verdict"], edit["how"]) == ("proven", "numeric")
    assert report["closing"]["verdict"] == "passed"
    assert manifest["adapters"] == [
        {"kind": "renamed", "names": [["x", "value"]], "plugin": "graphopt-renames"}
    ]

    graphopt("run", "out", "--inputs", "values.npz", "--outputs", "results.npz")
    assert np.load(tmp_path / "results.npz")["y"].tolist() == [0, 0, 0, -1]
    graphopt(*VALIDATE)
    graphopt("bench", "out", "--inputs", "values.npz", "--rounds", "1", "--new-tokens", "2")

    graphopt(*OPTIMIZE, "--force")
    again = read(tmp_path, "report.json")
    assert [step["cached"] for step in again["passes"]] == [True]
    assert read(tmp_path, "graphopt.json") == manifest
    graphopt(
        "optimize", "--locked", "out/graphopt.lock", "model.onnx", "-o", "out2", "--inputs", "inputs.npz"
    )


def test_a_package_says_which_plugin_it_lacks(
    pretend: Callable[..., Environment], with_sample: Environment, tmp_path: Path
) -> None:
    environment = pretend("graphopt-renames", RENAMES)
    assert environment.run("-c", MODEL, cwd=tmp_path).returncode == 0
    made = environment.graphopt(*OPTIMIZE, cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    assert environment.graphopt(*VALIDATE, cwd=tmp_path).returncode == 0

    without = with_sample.graphopt(*VALIDATE, cwd=tmp_path)
    assert without.returncode == 4
    assert "adapter 'renamed', which is of the plugin graphopt-renames" in without.stderr
    (tmp_path / "graphopt.toml").write_text("[plugins]\nallow = []\n")
    left_out = environment.graphopt(*VALIDATE, cwd=tmp_path)
    assert left_out.returncode == 4
    assert "plugin 'graphopt-renames' of graphopt-renames 0.1 is left out" in left_out.stderr
