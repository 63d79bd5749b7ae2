#!/usr/bin/env bash
# A good engineer would expect a version converter to keep what a model computes, or to refuse. onnx 1.23.2's changes it for operators
# whose meaning changed between opsets, and says nothing: Hardmax has one winner among all later axes up to opset 12 and one
# along the axis alone from 13 on; Resize of opset 10 takes pixels from the corner and that of 11 from their middle by default.
#
# Seen: converted 12 -> 13, Hardmax of [1, 2, 2] has two ones instead of one; converted 10 -> 11, linear Resize of [0, 1] to four pixels
# gives 0, 0.25, 0.75, 1 instead of 0, 0.5, 1, 1 (onnxruntime 1.32.0 runs all four).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check onnx==1.23.2 numpy==2.4.6 onnxruntime==1.32.0
cd "$work"
venv/bin/python -W ignore - <<'EOF'
import numpy as np
import onnx
import onnxruntime as ort
from onnx.version_converter import convert_version

def run(model, feeds):
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)[0]

hardmax = onnx.parser.parse_model("""
    <ir_version: 7, opset_import: ["": 12]>
    net (float[1, 2, 2] x) => (float[1, 2, 2] y) { y = Hardmax<axis = 1>(x) }
""")
resize = onnx.parser.parse_model("""
    <ir_version: 5, opset_import: ["": 10]>
    net (float[1, 1, 1, 2] x) => (float[1, 1, 1, 4] y) <float[4] scales = {1, 1, 1, 2}> {
        y = Resize<mode = "linear">(x, scales)
    }
""")
cases = (
    (hardmax, 13, np.asarray([[[0, 1], [2, 3]]], np.float32), [0, 0, 0, 1], [0, 0, 1, 1]),
    (resize, 11, np.asarray([[[[0, 1]]]], np.float32), [0, 0.5, 1, 1], [0, 0.25, 0.75, 1]),
)
for model, opset, x, before, after in cases:
    converted = convert_version(model, opset)
    onnx.checker.check_model(converted)
    found = [run(one, {"x": x}).ravel().tolist() for one in (model, converted)]
    print(*found)
    assert found == [before, after]
EOF
