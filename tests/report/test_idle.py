"""A compression that changed nothing says so, and why."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import parser

from graphopt import optimize
from graphopt.pipeline import EditRecord, NearMiss, PassRecord
from graphopt.report import idle_stages
from tests._quantized import images, qdq_network

TINY = """
<ir_version: 10, opset_import: ["" : 23]>
g (float[B,64] x) => (float[B,64] y) { s = Sin(x) y = MatMul(s, w) }
"""


def record(
    step: str,
    level: str = "compress",
    *,
    applied: bool = False,
    misses: int = 0,
    skipped: str | None = None,
) -> PassRecord:
    made = PassRecord(step, level, "exact", {})
    made.skipped = skipped
    made.near_misses = [NearMiss(f"node{i}", "it is too small") for i in range(misses)]
    made.edits = [EditRecord(1, "id", "an edit", "applied", None)] if applied else []
    return made


@pytest.mark.parametrize(
    ("records", "said"),
    [
        ([record("fold", "improve"), record("a", applied=True), record("b", misses=2)], []),
        ([record("fold", "improve")], []),
        (
            [record("a", misses=2), record("b"), record("fold", "improve", applied=True)],
            ["Nothing was compressed by a or b: it is too small (2 times)."],
        ),
        (
            [record("a", applied=True), record("fold", "improve"), record("kv")],
            ["Nothing was compressed by kv: there is nothing in the model that it takes."],
        ),
    ],
)
def test_a_stage_that_changed_nothing_is_told(records: list[PassRecord], said: list[str]) -> None:
    assert idle_stages([records]) == said
    assert idle_stages([records, records]) == [text.replace("2 times", "4 times") for text in said]


def test_passes_that_did_not_run_for_one_reason_are_told_together() -> None:
    records = [record("a", skipped="it is slower"), record("b", skipped="it is slower")]
    assert idle_stages([records]) == ["Nothing was compressed by a or b: a, b did not run: it is slower."]


def test_a_stage_that_changed_one_of_two_graphs_is_not_idle() -> None:
    assert idle_stages([[record("a", misses=1)], [record("a", applied=True)]]) == []


@pytest.mark.parametrize(
    ("recipe", "reason"),
    [
        ("int8", "its weight is quantized already"),
        ("int4", "its weight is quantized already"),
        ("int4-kv8", "quantize-kv: there is nothing in the model that it takes"),
        ("fp16", "there is nothing in the model that it takes"),
    ],
)
def test_every_recipe_that_compresses_tells(tmp_path: Path, recipe: str, reason: str) -> None:
    onnx.save(qdq_network(), tmp_path / "model.onnx")
    np.savez(tmp_path / "inputs.npz", x=images(2))
    package = optimize(
        tmp_path / "model.onnx",
        tmp_path / "out",
        recipe=recipe,
        inputs=tmp_path / "inputs.npz",
        verify="structure",
    )
    assert any("Nothing was compressed by" in note and reason in note for note in package.report().notes)


def test_half_precision_says_that_weights_are_too_small_for_it(tmp_path: Path) -> None:
    """It neither stops nor stores zeros, and its package is as good as its source."""
    model = parser.parse_model(TINY)
    w = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32) * np.float32(1e-6)
    model.graph.initializer.append(onnx.numpy_helper.from_array(w, "w"))
    onnx.save(model, tmp_path / "model.onnx")

    package = optimize(tmp_path / "model.onnx", tmp_path / "out", recipe="fp16", dims=["B=3"])

    assert package.manifest.closing_check == "passed"
    (note,) = (note for note in package.report().notes if "Nothing was compressed" in note)
    assert "too small for float16" in note
