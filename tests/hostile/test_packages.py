"""Packages changed at random, and what else commands read: each answers with an exit code, none by a bug.

`make fuzz` tries more, other ones each time.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import parser

import graphopt
from tests.hostile._limited import run_limited
from tests.hostile._mutations import ALWAYS, damage

EXAMPLES = int(os.environ.get("FUZZ", "0")) // 20 or 10
MODEL = """<ir_version: 10, opset_import: ["" : 23]>
g (float[N,8] x) => (float[N,8] y) <float one = {1.0}> { a = Sigmoid(x) b = Mul(a, x) y = Add(b, one) }"""
RECIPE = 'description = "Two passes."\n[[pass]]\nname = "cse"\n[[pass]]\nname = "raise-silu"\n'
OPTIMIZE = ("optimize", "net.onnx", "-o", "out", "--no-validate", "--quiet")
COMMANDS = {
    "bench": ("bench", "package", "--inputs", "inputs.npz", "--new-tokens", "1", "--rounds", "1"),
    "inspect": ("inspect", "package"),
    "locked": ("optimize", "net.onnx", "-o", "out", "--quiet", "--locked", "package/graphopt.lock"),
    "recipe": (*OPTIMIZE, "--recipe", "recipe.toml"),
    "run": ("run", "package", "--inputs", "inputs.npz", "--outputs", "outputs.npz"),
    "say": ("run", "package", "hello", "--max-new-tokens", "2"),
    "validate": ("validate", "package", "--reference", "net.onnx", "--data", "inputs.npz"),
}
# The package writes no text; the sizes of its inputs are not known, so that its comparison decides nothing.
WHOLE = {"say": 2, "locked": 3}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package of a small graph, with a model, inputs and a recipe beside it."""
    folder = tmp_path_factory.mktemp("whole")
    onnx.save(parser.parse_model(MODEL), folder / "net.onnx")
    np.savez(folder / "inputs.npz", x=np.ones((2, 8), np.float32))
    (folder / "recipe.toml").write_text(RECIPE)
    graphopt.optimize(folder / "net.onnx", folder / "package", recipe="lossless")
    return folder


def files_of(command: str, folder: Path) -> list[Path]:
    """The files that a command reads."""
    if command == "recipe":
        return [folder / "recipe.toml"]
    if command == "locked":
        return [folder / "package" / "graphopt.lock"]
    package = sorted(path for path in (folder / "package").iterdir() if path.is_file())
    return [*package, folder / "inputs.npz"] if command == "run" else package


def answers(command: str, folder: Path) -> int:
    done = run_limited(COMMANDS[command], folder)
    assert done.code in (0, 1, 2, 3, 4), f"{command}: {done.code}\n{done.out}\n{done.err}"
    assert "Traceback" not in done.err
    return done.code


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_a_whole_package_is_read(command: str, whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "folder")
    assert answers(command, tmp_path / "folder") == WHOLE.get(command, 0)


@settings(ALWAYS, max_examples=EXAMPLES)
@given(st.data(), st.sampled_from(sorted(COMMANDS)))
def test_damaged_packages_are_read_or_refused(whole: Path, data: st.DataObject, command: str) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "folder"
        shutil.copytree(whole, folder)
        path = data.draw(st.sampled_from(files_of(command, folder)))
        damage(path, data)
        answers(command, folder)
