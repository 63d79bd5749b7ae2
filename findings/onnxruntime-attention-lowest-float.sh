#!/usr/bin/env bash
# A mask is often the lowest float where nothing may be seen. A good engineer would expect `Attention` (ai.onnx 23) to add it to the scores, as
# its specification and onnx's reference do: a query that sees nothing then gives the mean of all values. onnxruntime 1.32.0's CPU kernel takes
# a bias of exactly the lowest float for "masked" and gives zeros for such a row; the next float above, or -1e9, it adds.
#
# Seen: 0 where onnx's reference gives 2, 3, 4, 5; and 2, 3, 4, 5 with the next float or -1e9.
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
from onnx.reference import ReferenceEvaluator

model = onnx.parser.parse_model("""
    <ir_version: 10, opset_import: ["": 23]>
    net (float[1, 1, 1, 4] q, float[1, 1, 2, 4] k, float[1, 1, 2, 4] v, float[1, 2] bias) => (float[1, 1, 1, 4] y) {
        y = Attention(q, k, v, bias)
    }
""")
onnx.checker.check_model(model, full_check=True)

def run(model, feeds):
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)[0]

lowest = np.finfo(np.float32).min
for bias, expected in ((lowest, [0, 0, 0, 0]), (np.nextafter(lowest, np.float32(0)), [2, 3, 4, 5]), (-1e9, [2, 3, 4, 5])):
    feeds = {
        "q": np.zeros((1, 1, 1, 4), np.float32),
        "k": np.zeros((1, 1, 2, 4), np.float32),
        "v": np.arange(8, dtype=np.float32).reshape(1, 1, 2, 4),
        "bias": np.full((1, 2), bias, np.float32),
    }
    reference = ReferenceEvaluator(model).run(None, feeds)[0].ravel()
    found = run(model, feeds).ravel()
    print(bias, reference, found)
    assert reference.tolist() == [2, 3, 4, 5]
    assert found.tolist() == expected
EOF
