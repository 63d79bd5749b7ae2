#!/usr/bin/env bash
# `local_window_size` of com.microsoft's GroupQueryAttention is the "left_window_size for local attention", -1 for none. A good engineer
# would expect W to show W tokens to the left of the query, as in flash attention whose name it bears, and 0 the token alone. onnxruntime
# 1.32.0's CPU kernel counts the token itself: W shows W - 1 to its left, and with 0 nothing is seen and all results are zero.
#
# Seen: values 1, 2, 3 and equal scores give 1, 1.5, 2 with -1; 1, 1.5, 2.5 with 2; 1, 2, 3 with 1; 0, 0, 0 with 0.
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

MODEL = """
    <ir_version: 10, opset_import: ["": 21, "com.microsoft": 1]>
    net (float[1, 3, 16] q, float[1, 3, 16] k, float[1, 3, 16] v, int32[1] last, int32 total)
        => (float[1, 3, 16] y, float[1, 1, n, 16] keys, float[1, 1, n, 16] values) {
        y, keys, values = com.microsoft.GroupQueryAttention<num_heads = 1, kv_num_heads = 1, local_window_size = WINDOW>
            (q, k, v, , , last, total)
    }
"""

def run(model, feeds):
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)[0]

feeds = {
    "q": np.zeros((1, 3, 16), np.float32),
    "k": np.zeros((1, 3, 16), np.float32),
    "v": np.repeat(np.asarray([[[1], [2], [3]]], np.float32), 16, axis=2),
    "last": np.asarray([2], np.int32),
    "total": np.asarray(3, np.int32),
}
for window, expected in ((-1, [1, 1.5, 2]), (2, [1, 1.5, 2.5]), (1, [1, 2, 3]), (0, [0, 0, 0])):
    found = run(onnx.parser.parse_model(MODEL.replace("WINDOW", str(window))), feeds)[0, :, 0]
    print(window, found)
    assert np.allclose(found, expected), found
EOF
