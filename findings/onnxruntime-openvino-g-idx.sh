#!/usr/bin/env bash
# A good engineer would expect an execution provider to compute what the operator means, or to leave the node to another. OpenVINO's, of
# onnxruntime-openvino 1.24.1, claims MatMulNBits with `g_idx` (GPTQ's act-order) and ignores that input, on its CPU device at
# precision ACCURACY.
#
# Seen: off by 25 from what the CPU provider of the same package gives, and equal to 8e-6 to what the weights mean without `g_idx`.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check onnx==1.23.2 numpy==2.4.6 onnxruntime-openvino==1.24.1
cd "$work"
venv/bin/python -W ignore - <<'EOF'
import numpy as np
import onnxruntime as ort
from onnx import helper, numpy_helper

K, N, BLOCK = 64, 8, 32
rng = np.random.default_rng(0)
quantized = rng.integers(0, 16, (N, K)).astype(np.uint8)
packed = (quantized[:, 0::2] | quantized[:, 1::2] << 4).reshape(N, K // BLOCK, BLOCK // 2)
scales = rng.random((N, K // BLOCK)).astype(np.float32)
x = rng.standard_normal((1, K)).astype(np.float32)


def model(**weights):
    """MatMulNBits, 4 bits, with these of its inputs."""
    names = [name if name in weights else "" for name in ("w", "scales", "zero_points", "g_idx")]
    node = helper.make_node(
        "MatMulNBits", ["x", *names], ["y"], domain="com.microsoft", K=K, N=N, bits=4, block_size=BLOCK
    )
    graph = helper.make_graph(
        [node],
        "net",
        [helper.make_tensor_value_info("x", 1, [1, K])],
        [helper.make_tensor_value_info("y", 1, [1, N])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


groups = rng.permutation(np.arange(K) // BLOCK).astype(np.int32)
content = model(w=packed, scales=scales, g_idx=groups).SerializeToString()
meant = x @ ((quantized - np.float32(8)) * scales[:, groups]).T
ignored = x @ ((quantized - np.float32(8)) * scales[:, np.arange(K) // BLOCK]).T
own = ort.InferenceSession(content, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
session = ort.InferenceSession(content, providers=[("OpenVINOExecutionProvider", {"precision": "ACCURACY"})])
theirs = session.run(None, {"x": x})[0]
print(session.get_providers(), abs(own - meant).max(), abs(theirs - meant).max(), abs(theirs - ignored).max())
assert session.get_providers()[0] == "OpenVINOExecutionProvider"
assert abs(own - meant).max() < 1e-4
assert abs(theirs - meant).max() > 1
assert abs(theirs - ignored).max() < 1e-4
EOF
