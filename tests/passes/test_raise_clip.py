"""What onnxruntime makes of bounds behind a convolution as it opens a graph."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from graphopt.pipeline import Context
from graphopt.plugins import run_recipe
from graphopt.recipes import Budget, Recipe, Step
from tests.passes._vision import loaded, weighted

CONV = "c = Conv<pads = [1, 1, 1, 1]>(x, w) "


@pytest.mark.parametrize("bounds", ["a = Max(c, zero) y = Min(a, six)", "a = Relu(c) y = Min(a, six)"])
def test_one_clip_is_fused_with_the_convolution_and_two_bounds_are_not(bounds: str, tmp_path: Path) -> None:
    weight = np.random.default_rng(0).standard_normal((8, 8, 3, 3)).astype(np.float32)
    model = weighted(
        "x", (8, 6, 6), CONV + bounds, w=weight, zero=np.array(0, np.float32), six=np.array(6, np.float32)
    )
    before = kernels(model, tmp_path)
    run_recipe(model, Recipe("clip", "", Budget(), (Step("raise-clip"),)), Context(model))
    after = kernels(model, tmp_path)
    assert before["Min"] == 1
    assert not {"Min", "Max", "Relu", "Clip"} & after.keys()


def kernels(model: ir.Model, folder: Path) -> Counter[str]:
    return Counter(node.op_type for node in loaded(model, folder / "optimized.onnx"))
