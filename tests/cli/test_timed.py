"""Seconds by part on pages: of a package that can be run, and of one nobody knows inputs for."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx import parser

from graphopt import Package, optimize
from graphopt.cli._timed import timed

NET = """
<ir_version: 10, opset_import: ["" : 23]>
net (float[batch, 4] x) => (float[batch, 4] y)
{
  same = Identity(x)
  y = Relu(same)
}
"""


def test_parts_are_timed(tiny_coder_at: Callable[[str], Path]) -> None:
    package = Package.load(tiny_coder_at("int4"))
    view = timed(package.report(), package).views["model"]
    layers = [group for group in view.after.groups if group.layer is not None]
    assert all(group.seconds is not None and group.seconds > 0 for group in layers)
    spent = sum(one.seconds or 0.0 for one in view.after.operators)
    assert sum(group.seconds or 0.0 for group in view.after.groups) == pytest.approx(spent)
    assert view.after.seconds_elsewhere < spent
    assert all(group.seconds is None for group in view.before.groups)


def test_both_sides_are_timed_where_the_source_can_be_run(tiny_coder_at: Callable[[str], Path]) -> None:
    package = Package.load(tiny_coder_at("int4"))
    report = package.report()
    report.views["model"].before = report.views["model"].after
    both = timed(report, package, package).views["model"]
    assert all(group.seconds is not None for side in (both.before, both.after) for group in side.groups)


def test_where_no_inputs_are_known_a_note_says_so(tmp_path: Path) -> None:
    onnx.save(parser.parse_model(NET), tmp_path / "net.onnx")
    package = optimize(tmp_path / "net.onnx", tmp_path / "out", recipe="lossless", dims=["batch=2"])
    described = json.loads((package.path / "graphopt.json").read_text())
    (package.path / "graphopt.json").write_text(json.dumps(described | {"sizes": {}}))
    package = Package.load(package.path)
    report = timed(package.report(), package)
    assert report.views["model"].after.group("block 1") is not None
    assert report.notes[-1] == f"Parts were not timed: legal inputs of {package.path} are unknown."
