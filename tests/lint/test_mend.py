"""`mend` takes away what rules find, by verified passes, and leaves what a model computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnxruntime as ort
import pytest

from graphopt.build import lint, mend
from graphopt.recipes import OptimizeOptions
from tests.lint._planted import PLANTED, Planted, float_zeros

LEVEL_4 = 0.02
"""Largest relative error of a product whose rows are rounded to int8, after two layers."""


def run(path: Path, planted: Planted) -> np.ndarray:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (result,) = session.run(None, planted.feeds)
    return np.asarray(result)


@pytest.mark.parametrize(
    ("name", "tolerance"),
    [
        ("an optimum-style int8 file", 1e-3),
        ("zero points in floats", 1e-5),
        ("DequantizeLinear, Transpose, MatMul", LEVEL_4),
        ("BatchNormalization left in", 1e-5),
        ("signed activations", 0),
    ],
)
def test_what_tools_leave_is_mended(tmp_path: Path, name: str, tolerance: float) -> None:
    planted = PLANTED[name](tmp_path / "made")
    model, inputs = planted.save(tmp_path / "model")
    report = lint(model, ignore=["GO101"])

    package = mend(model, tmp_path / "out", report, options=OptimizeOptions(inputs=inputs))

    assert package is not None
    assert package.manifest.closing_check == "passed"
    assert not lint(package.path, ignore=["GO101"]).found
    expected, got = run(model, planted), run(package.path / "model.onnx", planted)
    scale = float(np.abs(expected).max())
    np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance * scale)
    mending = {step.name for rule, _ in report.found for step in rule.mends}
    edits = [edit for step in package.report().passes if step.step in mending for edit in step.edits]
    assert {edit.verdict for edit in edits if edit.outcome == "applied"} <= {"proven", "within budget"}


def test_only_what_was_asked_for_is_mended(tmp_path: Path) -> None:
    planted = PLANTED["an optimum-style int8 file"](tmp_path / "made")
    model, inputs = planted.save(tmp_path / "model")
    report = lint(model, ignore=["GO203"])

    package = mend(model, tmp_path / "out", report, options=OptimizeOptions(inputs=inputs))

    assert package is not None
    assert [rule.code for rule, _ in lint(package.path).by_rule()] == ["GO203"]


def test_a_level_that_is_raised_is_held_to_a_budget(tmp_path: Path) -> None:
    """Zero points first, which makes a product of which the level counts."""
    planted = float_zeros(tmp_path)
    model, inputs = planted.save(tmp_path / "model")
    first = mend(model, tmp_path / "first", lint(model), options=OptimizeOptions(inputs=inputs))
    assert first is not None
    report = lint(first.path)
    assert [rule.code for rule, _ in report.by_rule()] == ["GO101"]

    second = mend(first.path, tmp_path / "second", report, options=OptimizeOptions(inputs=inputs))

    assert second is not None
    assert not second.manifest.lossless
    assert not lint(second.path).found
    expected, got = run(model, planted), run(second.path / "model.onnx", planted)
    np.testing.assert_allclose(got, expected, rtol=0, atol=LEVEL_4 * float(np.abs(expected).max()))
    levels = [
        attribute.i
        for node in onnx.load(second.path / "model.onnx", load_external_data=False).graph.node
        for attribute in node.attribute
        if attribute.name == "accuracy_level"
    ]
    assert levels == [4, 4]


def test_nothing_is_written_where_no_pass_mends_anything(tmp_path: Path) -> None:
    model = onnx.parser.parse_model("""
        <ir_version: 10, opset_import: ["" : 23]>
        g (float[batch,12,8] x) => (float[24,8] y)
        <int64[2] shape = {24, 8}>
        { y = Reshape(x, shape) }
    """)
    onnx.save(model, tmp_path / "model.onnx")
    report = lint(tmp_path / "model.onnx")

    assert len(report.found) == 1
    assert mend(tmp_path / "model.onnx", tmp_path / "out", report) is None
    assert not (tmp_path / "out").exists()
