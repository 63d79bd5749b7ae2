"""What a package was calibrated on is in its files, and another run is held to it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import parser

from graphopt import BadInput, Package, optimize
from graphopt.cli._main import run
from graphopt.pipeline import Context, Contract, Edits, Level, Pass
from graphopt.plugins import registry

TEXT = """
<ir_version: 10, opset_import: ["" : 23]>
net (float[batch, 4] x) => (float[batch, 4] y) { y = Relu(x) }
"""


class Looks(Pass):
    """Decides by what the output is on the calibration data."""

    name = "looks"
    level = Level.IMPROVE
    contract = Contract.exact()

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        stream = context.stream()
        if not isinstance(stream, str):
            largest = max(float(y.max()) for (y,) in stream.values(list(graph.outputs)))
            context.decide("largest", lambda: largest)
        return
        yield


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    found = {**registry.passes(), "looks": Looks}
    monkeypatch.setattr(registry, "passes", lambda: found)
    onnx.save(parser.parse_model(TEXT), tmp_path / "net.onnx")
    (tmp_path / "recipe.toml").write_text('[[pass]]\nname = "looks"\n')
    for name, value in (("a", 3), ("b", 5)):
        np.savez(tmp_path / f"{name}.npz", x=np.full((9, 4), value, np.float32))
    return tmp_path


def made(folder: Path, out: str, **options: Any) -> tuple[Package, Any]:
    """The package, and its lock's decisions."""
    if "locked" not in options:
        options |= {"recipe": str(folder / "recipe.toml"), "dims": ["batch=1,3"]}
    package = optimize(folder / "net.onnx", folder / out, force=True, **options)
    return package, json.loads((package.path / "graphopt.lock").read_text())["decisions"]


def test_the_lock_the_manifest_and_the_report_name_it(folder: Path) -> None:
    package, decisions = made(folder, "out", calibration=str(folder / "a.npz"))
    assert decisions["largest"] == 3
    assert decisions["calibration"]["name"] == "a.npz"
    assert package.manifest.calibration is not None
    assert package.manifest.calibration.file == str(folder / "a.npz")
    assert "calibrated on a.npz: 9 samples" in package.report().notes
    with pytest.raises(BadInput, match=r"was calibrated on a\.npz"):
        package.validate(folder / "net.onnx", data=folder / "a.npz")
    package.validate(folder / "net.onnx", data=folder / "b.npz")


def test_without_data_a_pass_is_told_so(folder: Path) -> None:
    package, decisions = made(folder, "out")
    assert decisions == {}
    assert package.manifest.calibration is None


def test_other_data_are_another_run(folder: Path) -> None:
    for _ in range(2):
        for name, largest in (("a", 3), ("b", 5)):
            assert made(folder, "out", calibration=folder / f"{name}.npz")[1]["largest"] == largest


def test_a_lock_is_followed_on_the_same_data_alone(folder: Path) -> None:
    first, _ = made(folder, "first", calibration=folder / "a.npz")
    again, _ = made(folder, "again", locked=first.path, calibration=folder / "a.npz")
    assert (again.path / "graphopt.json").read_bytes() == (first.path / "graphopt.json").read_bytes()
    for other in (folder / "b.npz", None):
        with pytest.raises(BadInput, match=r"calibrated on a\.npz, and that is not what there is now"):
            made(folder, "again", locked=first.path, calibration=other)


def test_text_for_a_model_that_reads_none_is_bad_input(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "t.txt").write_text("some text")
    source, out = str(folder / "net.onnx"), str(folder / "out")
    assert run(["optimize", source, "-o", out, "--calibration", str(folder / "t.txt")]) == 2
    said = capsys.readouterr().err
    assert "it cannot be calibrated on" in said
    assert ".npz" in said
    assert not (folder / "out").exists()
