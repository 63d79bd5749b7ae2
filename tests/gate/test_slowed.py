"""What is planted to be slow does more and says the same: a gate that finds it finds the time it takes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

from graphopt import Package
from tests.gate._planted import slowed


def test_results_stay_to_the_bit(tiny_coder_at: Callable[[str], Path], tmp_path: Path) -> None:
    before = tiny_coder_at("int4")
    after = slowed(before, tmp_path / "slow", 3)

    for new, old in zip(logits(after), logits(before), strict=True):
        assert np.array_equal(new, old)


def logits(folder: Path) -> list[np.ndarray]:
    package = Package.load(folder)
    decoder = package.target().decoder(folder, package.session(), length=12)
    return [decoder.append(np.arange(1, count + 1)).copy() for count in (8, 1, 3)]


def test_no_link_is_optimized_away(tiny_coder_at: Callable[[str], Path], tmp_path: Path) -> None:
    folder = slowed(tiny_coder_at("int4"), tmp_path / "slow", 3)
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    ort.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])
    nodes = onnx.load(tmp_path / "optimized.onnx", load_external_data=False).graph.node

    planted = [node.op_type for node in nodes if "/slow" in node.input[0]]
    assert planted == ["Neg"] * 2 * 3
