#!/usr/bin/env bash
# A good engineer would expect an optimizer to keep the type of a constant. onnxslim 0.1.98 turns a Constant's `value_float` in a
# model-local function into a tensor of doubles, and says nothing.
#
# Seen: of a valid model with one function, which onnxruntime 1.32.0 runs, it makes one that onnxruntime cannot load: "(op_type:Mul):
# B has inconsistent type tensor(double)".
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check onnx==1.23.2 numpy==2.4.6 onnxslim==0.1.98 onnxruntime==1.32.0
cd "$work"
venv/bin/python -W ignore - <<'EOF'
import numpy as np
import onnx
import onnxruntime as ort
import onnxslim

model = onnx.parser.parse_model("""
    <ir_version: 9, opset_import: ["": 18, "own": 1]>
    net (float[N] x) => (float[N] y) { a = own.Twice(x)  y = Relu(a) }
    <domain: "own", opset_import: ["": 18]>
    Twice (t) => (s) { two = Constant <value_float: float = 2.0> ()  s = Mul(t, two) }""")
onnx.checker.check_model(model, full_check=True)

def run(one):
    session = ort.InferenceSession(one.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": np.float32([1, -1])})[0].tolist()

assert run(model) == [2, 0]
said = ""
try:
    run(onnxslim.slim(model))
except Exception as error:
    said = str(error)
print(said)
assert "B has inconsistent type tensor(double)" in said
EOF
