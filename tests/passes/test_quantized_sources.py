"""What passes leave of models that are quantized already, and what folding may add to a model in all."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest

from graphopt.ir import infer_types, parse, save_model
from graphopt.pipeline import Context, RunResult
from graphopt.plugins import load_recipe, run_recipe
from graphopt.recipes import Budget, Recipe, Step
from tests._quantized import images, qdq_network

WEIGHT_ONLY = """
<ir_version: 10, opset_import: ["" : 21]>
g (float[B,64] x) => (float[B,96] y, float[B,96] z)
<float[1] one = {1.0}>
{
  %s
  y = MatMul(x, w)
  r = Relu(x)
  z = MatMul(r, v)
}
"""
SHARED = """
  w = DequantizeLinear<axis = 1>(q, s)
  v = Identity(w)
"""
TWICE = """
  w = DequantizeLinear<axis = 1>(q, s)
  v = DequantizeLinear<axis = 1>(q, s)
"""
TURNED = """
  t = DequantizeLinear<axis = 0>(p, s)
  w = Transpose<perm = [1, 0]>(t)
  v = Identity(w)
"""


def deployed(path: Path, x: np.ndarray) -> tuple[Counter[str], list[Any]]:
    """The operators onnxruntime is left with at its defaults, and what they give."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.optimized_model_filepath = str(path.with_name("loaded.onnx"))
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    loaded = onnx.load(path.with_name("loaded.onnx"))
    return Counter(node.op_type for node in loaded.graph.node), session.run(None, {"x": x})


def lossless(proto: onnx.ModelProto, path: Path) -> RunResult:
    """Write to `path` what the passes of the recipe make of a model."""
    model = ir.from_proto(proto)
    recipe = load_recipe("lossless").expanded(())
    result = run_recipe(model, recipe, Context(model))
    save_model(model, path)
    return result


def stored(path: Path) -> int:
    return sum(file.stat().st_size for file in path.parent.glob(f"{path.name}*"))


@pytest.mark.parametrize("opset", [13, 17, 21])
def test_a_network_runs_on_the_same_integer_kernels_and_gives_the_same(tmp_path: Path, opset: int) -> None:
    source, x = qdq_network(opset=opset), images()
    (tmp_path / "before").mkdir()
    before, after = tmp_path / "before" / "model.onnx", tmp_path / "model.onnx"
    onnx.save(source, before)

    lossless(source, after)

    operators, expected = deployed(before, x)
    kept, got = deployed(after, x)
    operators.pop("Identity", None)
    assert operators["QLinearConv"] == 3
    assert kept == operators
    np.testing.assert_array_equal(got[0], expected[0])


@pytest.mark.parametrize("text", [SHARED, TWICE, TURNED], ids=["shared", "twice", "turned"])
def test_a_weight_stays_as_small_as_it_was_and_runs_on_the_same_kernels(tmp_path: Path, text: str) -> None:
    """The runtime computes with the integers where one product takes them, and widens them where not."""
    rng = np.random.default_rng(0)
    proto = onnx.parser.parse_model(WEIGHT_ONLY % text)
    q = rng.integers(-128, 128, (64, 96)).astype(np.int8)
    arrays = {"q": q, "p": q.T, "s": rng.uniform(0.01, 0.02, 96).astype(np.float32)}
    used = {name for node in proto.graph.node for name in node.input}
    weights = [
        onnx.numpy_helper.from_array(np.ascontiguousarray(a), n) for n, a in arrays.items() if n in used
    ]
    proto.graph.initializer.extend(weights)
    (tmp_path / "before").mkdir()
    before, after = tmp_path / "before" / "model.onnx", tmp_path / "model.onnx"
    onnx.save(proto, before)

    result = lossless(proto, after)

    x = rng.standard_normal((5, 64)).astype(np.float32)
    operators, expected = deployed(before, x)
    kept, got = deployed(after, x)
    assert kept == operators
    assert [a.tobytes() for a in got] == [a.tobytes() for a in expected]
    assert stored(after) < q.nbytes + 4000
    reasons = {miss.reason for record in result.records for miss in record.near_misses}
    assert "a quantized weight stays quantized" in reasons


GROWING = """
<ir_version: 10, opset_import: ["" : 23]>
g (float[B,1000] x, bool c) => (float[B,1000] y)
<float[1] w = {1.0}, int64[1] n = {1000}>
{
  a = Expand(w, n)
  two = Add(w, w)
  b = Expand(two, n)
  p = Mul(x, a)
  q = Mul(p, b)
  y = If(c) <
    then_branch = one () => (float[B,1000] u) { k = Expand(two, n) u = Add(q, k) },
    else_branch = other () => (float[B,1000] v) { v = Identity(q) }
  >
}
"""


@pytest.mark.parametrize(("growth", "left"), [(0, 3), (4100, 2), (8100, 1), (1 << 20, 0)])
def test_all_steps_and_subgraphs_share_one_budget(growth: int, left: int) -> None:
    model = parse(GROWING)
    infer_types(model)
    step = Step("fold-constants", {"max_growth": growth})
    context = Context(model)

    run_recipe(model, Recipe("three", "", Budget(), (step, step, step)), context)

    assert sum(node.op_type == "Expand" for node in model.graph.all_nodes()) == left
    assert context.spent.get("fold-constants", 0) <= growth
