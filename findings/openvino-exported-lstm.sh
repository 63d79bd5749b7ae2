#!/usr/bin/env bash
# A good engineer would expect that a graph which OpenVINO compiled, exported and imported again computes what it did before it was
# exported. Of openvino 2026.4.1 on the CPU, an LSTM (from ONNX) with more than one sample in its batch does not; with one it does.
# RotaryEmbedding of opset 23 is another operator that is right when it is compiled and wrong when it was exported.
#
# Seen: what is compiled is within 1e-6 of the operator's definition; what was exported and imported is off by 0.56.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check onnx==1.23.2 numpy==2.4.6 openvino==2026.4.1
cd "$work"
venv/bin/python -W ignore - <<'EOF'
from io import BytesIO

import numpy as np
import onnx
import openvino as ov
from onnx import helper, numpy_helper

STEPS, WIDTH, HIDDEN = 3, 3, 4
rng = np.random.default_rng(0)
w, r, b = (
    rng.standard_normal(shape).astype(np.float32)
    for shape in ((1, 4 * HIDDEN, WIDTH), (1, 4 * HIDDEN, HIDDEN), (1, 8 * HIDDEN))
)
node = helper.make_node("LSTM", ["x", "w", "r", "b"], ["y"], hidden_size=HIDDEN)
graph = helper.make_graph(
    [node],
    "net",
    [helper.make_tensor_value_info("x", 1, [STEPS, "B", WIDTH])],
    [helper.make_tensor_value_info("y", 1, [STEPS, 1, "B", HIDDEN])],
    [numpy_helper.from_array(array, name) for name, array in {"w": w, "r": r, "b": b}.items()],
)
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10), "net.onnx")


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def meant(x):
    """As ONNX defines it, gates in the order i, o, f, c."""
    h = c = np.zeros((x.shape[1], HIDDEN))
    found = []
    for step in x:
        gates = step @ w[0].T + h @ r[0].T + b[0, : 4 * HIDDEN] + b[0, 4 * HIDDEN :]
        i, o, f, g = np.split(gates, 4, axis=1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        found.append(h)
    return np.stack(found)[:, None]


core, options = ov.Core(), {"INFERENCE_PRECISION_HINT": "f32"}
compiled = core.compile_model("net.onnx", "CPU", options)
imported = core.import_model(BytesIO(compiled.export_model().getvalue()), "CPU", options)
print(ov.get_version(), core.get_property("CPU", "FULL_DEVICE_NAME"))
for batch in (1, 2):
    x = rng.standard_normal((STEPS, batch, WIDTH)).astype(np.float32)
    before, after = (abs(made({"x": x})[0] - meant(x)).max() for made in (compiled, imported))
    print(f"batch {batch}: compiled off by {before:.2g}, exported and imported by {after:.2g}")
    assert before < 1e-5
    assert after > 0.05 if batch > 1 else after < 1e-5
EOF
