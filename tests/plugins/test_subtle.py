"""Plugins that are nearly right: stopped at the edit, named by bisect, and the reproducer shows it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx import parser

from tests.plugins.conftest import Environment

Pretend = Callable[[str, str], Environment]

IMPORTS = """
import numpy as np, onnx_ir as ir
from graphopt.pipeline import Contract, Edit, Level, Pass
from graphopt.plugins import Pack
"""

EPSILON = f"""{IMPORTS}
class DivideByRms(Pass):
    "x * w / sqrt(mean(x^2) + e) as x * w / (sqrt(mean(x^2)) + e): the epsilon left the bracket."
    name, level, contract = "divide-by-rms", Level.IMPROVE, Contract.reassociates()
    def edits(self, graph, context):
        for node in tuple(graph):
            if node.op_type != "RMSNormalization":
                continue
            x, w = node.inputs
            tape = ir.tape.Tape()
            axes = tape.initializer(ir.tensor(np.array([-1]), name=node.name + "/axes"))
            epsilon = node.attributes["epsilon"].value
            e = tape.initializer(ir.tensor(np.float32(epsilon), name=node.name + "/epsilon"))
            mean = tape.op("ReduceMean", [tape.op("Mul", [x, x]), axes])
            y = tape.op("Mul", [tape.op("Div", [x, tape.op("Add", [tape.op("Sqrt", [mean]), e])]), w])
            for number, made in enumerate(tape.nodes):
                made.name = f"{{node.name}}/{{number}}"
            yield Edit("division by a root", remove=[node], insert=tape.nodes,
                       initializers=tape.initializers, replace={{node.outputs[0]: y}})
PACK = Pack(passes=(DivideByRms,))
"""

AXIS = f"""{IMPORTS}
class SoftmaxFromTheFront(Pass):
    "Axes of Softmax counted from the front: 1 stands for the last axis wherever the rank is below 4."
    name, level, contract = "softmax-from-the-front", Level.IMPROVE, Contract.exact()
    def edits(self, graph, context):
        for node in tuple(graph):
            if node.op_type == "Softmax" and node.attributes["axis"].value == -1:
                rank = len(node.inputs[0].shape)
                axis = ir.AttrInt64("axis", 1 if rank < 4 else rank - 1)
                made = ir.Node("", "Softmax", node.inputs, [axis], name=node.name + "/front")
                yield Edit(f"axis of rank {{rank}}", remove=[node], insert=[made],
                           replace={{node.outputs[0]: made.outputs[0]}})
PACK = Pack(passes=(SoftmaxFromTheFront,))
"""

RANKS = """
<ir_version: 10, opset_import: ["" : 23]>
ranks (float[N, 3] a, float[N, 3, 5] b, float[N, 2, 3, 5] c)
  => (float[N, 3] x, float[N, 3, 5] y, float[N, 2, 3, 5] z)
{
  x = Softmax<axis = -1>(a)
  y = Softmax<axis = -1>(b)
  z = Softmax<axis = -1>(c)
}
"""


@pytest.fixture
def ranks(tmp_path: Path) -> Path:
    model = parser.parse_model(RANKS)
    for node in model.graph.node:
        node.name = f"softmax-{node.output[0]}"
    onnx.save(model, tmp_path / "ranks.onnx")
    return tmp_path / "ranks.onnx"


def recipe(folder: Path, *steps: str) -> Path:
    path = folder / "mine.toml"
    path.write_text("description = 'mine'\n" + "".join(f'[[pass]]\nname = "{step}"\n' for step in steps))
    return path


def reproduced(folder: str) -> list[list[str]]:
    """What the reproducer says of each side, in words; it needs nothing but onnxruntime."""
    done = subprocess.run(
        [sys.executable, "-I", "reproduce.py"], cwd=folder, capture_output=True, text=True, check=True
    )
    return [line.split()[1:] for line in done.stdout.splitlines()]


def bisected(environment: Environment, folder: Path, *arguments: str | Path) -> dict:
    done = environment.graphopt("bisect", *arguments, "-o", folder / "work", "--json", "-", cwd=folder)
    assert done.returncode == 0, done.stderr
    found: dict = json.loads(done.stdout)
    return found


def test_an_epsilon_outside_its_bracket(
    pretend: Pretend, begun: Path, own_cache: Path, tmp_path: Path
) -> None:
    shutil.copytree(begun, own_cache, dirs_exist_ok=True)
    environment = pretend("graphopt-epsilon", EPSILON)
    steps = recipe(tmp_path, "fold-constants", "dead-code", "raise-rms-norm", "divide-by-rms", "dead-code")
    asked = ("tiny-coder", "--recipe", steps)
    stopped = environment.graphopt("optimize", *asked, "-o", tmp_path / "out", cwd=tmp_path)
    found = bisected(environment, tmp_path, *asked)
    before, after = reproduced(found["reproducer"])

    assert stopped.returncode == 1
    assert "pass 'divide-by-rms' (reassociates) changes results by edit divide-by-rms:" in stopped.stderr
    assert found["culprit"]["step"] == "divide-by-rms"
    assert found["culprit"]["identity"] in stopped.stderr
    assert before != after


def test_a_softmax_over_the_wrong_axis_at_rank_3(pretend: Pretend, ranks: Path, tmp_path: Path) -> None:
    environment = pretend("graphopt-axis", AXIS)
    asked = (
        ranks,
        "--recipe",
        recipe(tmp_path, "cse", "softmax-from-the-front", "dead-code"),
        "--dim",
        "N=2,3",
    )
    stopped = environment.graphopt("optimize", *asked, "-o", tmp_path / "out", cwd=tmp_path)
    found = bisected(environment, tmp_path, *asked)
    before, after = reproduced(found["reproducer"])

    assert stopped.returncode == 1
    assert "(axis of rank 3)" in stopped.stderr
    assert found["culprit"]["summary"] == "axis of rank 3"
    assert found["culprit"]["identity"] in stopped.stderr
    assert not found["promise"]
    assert before != after
