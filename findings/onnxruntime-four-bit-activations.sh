#!/usr/bin/env bash
# Opset 21 lets QuantizeLinear and DequantizeLinear round activations to 4 bits. A good engineer would expect a runtime that runs such a
# graph unoptimized to optimize it, or to leave it. onnxruntime 1.32.0 replaces DequantizeLinear, operator, QuantizeLinear by the operator on
# integers for 4 bits, too, at its default level, for operators that take 8 bits alone: it then refuses the graph that it made itself.
#
# Seen: MaxPool and ReduceMax between two int4 values run with optimizations off, and "This is an invalid model. Type Error: Type
# 'tensor(int4)' of input parameter ..." at the default level; with int8 all run. No message tells that the file is not at fault.
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

MODEL = """
    <ir_version: 10, opset_import: ["": 21]>
    net (float[1, 2, 4, 4] x) => (float[a, b, c, d] y) <float scale = {0.5}, TYPE zero = {0}> {
        qx = QuantizeLinear(x, scale, zero)
        dx = DequantizeLinear(qx, scale, zero)
        o = NODE
        qo = QuantizeLinear(o, scale, zero)
        y = DequantizeLinear(qo, scale, zero)
    }
"""
NODES = ("MaxPool<kernel_shape = [2, 2]>(dx)", "ReduceMax(dx)")

def run(model, level):
    options = ort.SessionOptions()
    options.graph_optimization_level = level
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": np.arange(32, dtype=np.float32).reshape(1, 2, 4, 4) / 16})[0]

ort.set_default_logger_severity(4)
usual = ort.SessionOptions().graph_optimization_level
for node in NODES:
    for dtype in ("int8", "int4"):
        model = onnx.parser.parse_model(MODEL.replace("TYPE", dtype).replace("NODE", node))
        onnx.checker.check_model(model, full_check=True)
        plain = run(model.SerializeToString(), ort.GraphOptimizationLevel.ORT_DISABLE_ALL)
        try:
            assert np.abs(run(model.SerializeToString(), usual) - plain).max() <= 0.5
            found = "runs"
        except Exception as error:
            found = str(error)
        print(node, dtype, found)
        assert found == "runs" if dtype == "int8" else "Type 'tensor(int4)' of input parameter" in found
PYTHON
