#!/usr/bin/env bash
# A Reshape of a Reshape is one Reshape, and a good engineer would expect an optimizer to merge them only where
# that gives the same. A 0 in the second shape copies a dimension of what the first made; onnxoptimizer 0.4.2's
# default passes (eliminate_consecutive_idempotent_ops) drop the first, so that the 0 copies one of the input's.
#
# Seen: the model gives [4, 3], optimized [2, 6], beside an output that is still declared as [4, 3]. onnx's own
# GroupNormalization, expanded, has this form, and comes out off by 1.4 (the backend suite's
# test_group_normalization_example_expanded).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check onnx==1.23.2 numpy==2.4.6 onnxruntime==1.32.0 onnxoptimizer==0.4.2
cd "$work"
venv/bin/python -W ignore - <<'EOF'
import numpy as np
import onnx
import onnxoptimizer
import onnxruntime as ort

model = onnx.parser.parse_model("""
    <ir_version: 10, opset_import: ["": 21]>
    net (float[2, 6] x) => (float[4, 3] y) <int64[2] first = {4, 3}, int64[2] second = {0, -1}> {
        between = Reshape(x, first)
        y = Reshape(between, second)
    }
""")
onnx.checker.check_model(model, full_check=True)

def run(model, feeds):
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)[0]

feeds = {"x": np.arange(12, dtype=np.float32).reshape(2, 6)}
shapes = run(model, feeds).shape, run(onnxoptimizer.optimize(model), feeds).shape
print(*shapes)
assert shapes == ((4, 3), (2, 6))
EOF
