#!/usr/bin/env bash
# MatMulNBits takes packed zero points, and `g_idx`, the group of each input channel (GPTQ's act-order). A good engineer would expect
# both together to mean what both mean, or to be refused. With both, onnxruntime 1.32.0's CPU kernel ignores the zero points and takes 8.
#
# Seen: with a `g_idx` that only says what is so without it (channel k is of group k / 32), results are off by 50 from those
# without, and equal to 4e-6 to those of a zero point of 8.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check onnx==1.23.2 numpy==2.4.6 onnxruntime==1.32.0
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


def run(model, feeds):
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)[0]

zeros = rng.integers(0, 16, (N, K // BLOCK)).astype(np.uint8)
groups = (np.arange(K) // BLOCK).astype(np.int32)
weights = {"w": packed, "scales": scales, "zero_points": zeros[:, :1] | zeros[:, 1:] << 4}
meant = x @ ((quantized - zeros[:, groups].astype(np.float32)) * scales[:, groups]).T
eight = x @ ((quantized - np.float32(8)) * scales[:, groups]).T
without, both = run(model(**weights), {"x": x}), run(model(**weights, g_idx=groups), {"x": x})
print(abs(without - meant).max(), abs(both - meant).max(), abs(both - eight).max())
assert abs(without - meant).max() < 1e-4
assert abs(both - meant).max() > 10
assert abs(both - eight).max() < 1e-4
EOF
