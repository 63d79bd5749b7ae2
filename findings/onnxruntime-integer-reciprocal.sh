#!/usr/bin/env bash
# 1/x * y is y/x for real numbers. Of integers it is not, since ONNX's Div drops the remainder, and a good engineer would expect an
# optimizer to know it. onnxruntime 1.32.0 writes Mul(Div(1, x), y) as Div(y, x) at its default level (DivMulFusion, at basic), for int32
# and int64 as for floats: what is 0 wherever x is above 1 becomes a quotient. Without optimizations, and by onnx's reference, it is 0.
#
# Seen: 1 / [2, 3, 1] * [4, 9, 5] is [0, 0, 5] unoptimized, and [2, 3, 5] at the default level.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check onnx==1.23.2 numpy==2.4.6 onnxruntime==1.32.0
cd "$work"
venv/bin/python -W ignore - <<'PYTHON'
import numpy as np
import onnx
import onnxruntime as ort
from onnx.reference import ReferenceEvaluator

MODEL = """
    <ir_version: 10, opset_import: ["": 21]>
    net (TYPE[3] x, TYPE[3] y) => (TYPE[3] z) <TYPE one = {1}> { share = Div(one, x) z = Mul(share, y) }
"""

def run(model, feeds, level):
    options = ort.SessionOptions()
    options.graph_optimization_level = level
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"]).run(None, feeds)[0]

for dtype in ("int32", "int64"):
    model = onnx.parser.parse_model(MODEL.replace("TYPE", dtype))
    onnx.checker.check_model(model, full_check=True)
    feeds = {"x": np.asarray([2, 3, 1], dtype), "y": np.asarray([4, 9, 5], dtype)}
    defined = ReferenceEvaluator(model).run(None, feeds)[0]
    plain = run(model, feeds, ort.GraphOptimizationLevel.ORT_DISABLE_ALL)
    usual = run(model, feeds, ort.SessionOptions().graph_optimization_level)
    print(dtype, "reference", defined, "unoptimized", plain, "default", usual)
    assert defined.tolist() == plain.tolist() == [0, 0, 5]
    assert usual.tolist() == [2, 3, 5], usual
PYTHON
