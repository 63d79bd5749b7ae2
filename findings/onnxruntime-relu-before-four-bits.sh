#!/usr/bin/env bash
# A Relu before QuantizeLinear can go where the smallest integer stands for zero, since rounding then cuts off what is below; a good engineer
# would expect an optimizer to look at the zero point first. onnxruntime 1.32.0 does so for 8 and 16 bits. For int4, uint4 and floats of
# 8 bits it takes the Relu away whatever the zero point is (ReluQuantFusion, at the default level): negative numbers come through.
# A zero point of 0 is the usual one of int4 and of float8e4m3fn.
#
# Seen: of [-3, -1, 0, 2] by a scale of 1, Relu, QuantizeLinear and DequantizeLinear give [0, 0, 0, 2] unoptimized and with int8, and
# [-3, -1, 0, 2] at the default level with int4, uint4 (zero point 8) and float8e4m3fn.
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

def model_of(dtype, zero):
    names = [("Relu", ["x"], "r"), ("QuantizeLinear", ["r", "scale", "zero"], "q"), ("DequantizeLinear", ["q", "scale", "zero"], "y")]
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node(kind, inputs, [out]) for kind, inputs, out in names],
        "net",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [4])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [4])],
        [
            onnx.helper.make_tensor("scale", onnx.TensorProto.FLOAT, [], [1.0]),
            onnx.helper.make_tensor("zero", getattr(onnx.TensorProto, dtype), [], [zero]),
        ],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()

def run(model, level):
    options = ort.SessionOptions()
    options.graph_optimization_level = level
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": np.asarray([-3, -1, 0, 2], np.float32)})[0].tolist()

kept, lost = [0, 0, 0, 2], [-3, -1, 0, 2]
for dtype, zero, expected in (
    ("INT8", 0, kept), ("INT16", 0, kept), ("UINT8", 128, kept),
    ("INT4", 0, lost), ("UINT4", 8, lost), ("FLOAT8E4M3FN", 0, lost), ("FLOAT8E5M2", 0, lost),
):
    model = model_of(dtype, zero)
    plain = run(model, ort.GraphOptimizationLevel.ORT_DISABLE_ALL)
    usual = run(model, ort.SessionOptions().graph_optimization_level)
    print(dtype, "unoptimized", plain, "default", usual)
    assert plain == kept, plain
    assert usual == expected, usual
PYTHON
