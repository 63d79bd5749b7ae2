"""Masks of Attention that the standard broadcasts and onnxruntime refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from onnx.reference import ReferenceEvaluator

import graphopt
from graphopt.ir import infer_types, parse, save_model, to_proto
from graphopt.pipeline import Context
from graphopt.plugins import run_recipe
from graphopt.recipes import Budget, Recipe, Step
from graphopt.testing import outputs, session

GRAPH = """<ir_version: 10, opset_import: ["" : 23]>
g (float[2,2,3,8] q, float[2,2,4,8] k, float[2,2,4,8] v, %s mask) => (float[2,2,3,8] y)
{ y = Attention(q, k, v, mask) }
"""
MASKS = ["float[2,1,1,4]", "float[2,2,1,4]", "float[1,4]", "float[4]"]


def feeds(mask: str) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    shapes = {"q": (2, 2, 3, 8), "k": (2, 2, 4, 8), "v": (2, 2, 4, 8)}
    dims = tuple(map(int, mask.partition("[")[2].rstrip("]").split(",")))
    return {n: rng.standard_normal(s).astype(np.float32) for n, s in (shapes | {"mask": dims}).items()}


@pytest.mark.parametrize("mask", MASKS)
def test_a_mask_that_the_kernel_refuses_is_written_out(mask: str) -> None:
    model = parse(GRAPH % mask)
    infer_types(model)
    proto, given = to_proto(model), feeds(mask)
    expected = ReferenceEvaluator(proto).run(None, given)[0]
    with pytest.raises(Exception, match="attn_mask"):
        ort.InferenceSession(proto.SerializeToString()).run(None, given)

    run_recipe(model, Recipe("test", "", Budget(), (Step("expand-masks"),)), Context(model))

    np.testing.assert_allclose(outputs(session(model), given)["y"], expected, rtol=1e-4, atol=1e-6)


def test_such_a_graph_is_compared_with_onnx_itself(tmp_path: Path) -> None:
    save_model(parse(GRAPH % MASKS[0]), tmp_path / "net.onnx")
    package = graphopt.optimize(tmp_path / "net.onnx", tmp_path / "out", recipe="lossless")
    assert package.manifest.closing_check == "passed"
    assert "reference implementation" in package.report().closing.reference
    assert package.run(feeds(MASKS[0]))["y"].shape == (2, 2, 3, 8)
