#!/usr/bin/env bash
# A good engineer would expect a value that a provider refuses for one of its options to raise. With onnxruntime-openvino 1.24.1,
# `precision="FP16"` on a CPU (a value that the documentation lists, for GPUs) gives a session of the CPU provider alone: no
# exception, only two lines in the log.
#
# Seen: get_providers() is ["CPUExecutionProvider"]; without the option, or with "FP32" and "ACCURACY", OpenVINO's comes first.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check onnx==1.23.2 numpy==2.4.6 onnxruntime-openvino==1.24.1
cd "$work"
venv/bin/python -W ignore - <<'EOF'
import onnx
import onnxruntime as ort

model = onnx.parser.parse_model("""
    <ir_version: 10, opset_import: ["": 21]>
    net (float[2, 4] x, float[4, 4] w) => (float[2, 4] y) { y = MatMul(x, w) }
""")
both = ["OpenVINOExecutionProvider", "CPUExecutionProvider"]
for options, expected in (
    ({}, both),
    ({"precision": "FP32"}, both),
    ({"precision": "ACCURACY"}, both),
    ({"precision": "FP16"}, both[1:]),
):
    session = ort.InferenceSession(model.SerializeToString(), providers=[(both[0], options)])
    print(options, session.get_providers())
    assert session.get_providers() == expected
EOF
