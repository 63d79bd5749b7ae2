#!/usr/bin/env bash
# A good engineer would expect a convolution whose weight was left in float32, since it bears no rounding, to be computed with that
# weight. Where its input comes from DequantizeLinear and its result goes to QuantizeLinear, onnxruntime 1.32.0 rounds the weight to
# int8 itself when it loads the graph, with one scale for all outputs (WeightBiasQuantization, at the default level and at basic):
# what quantizers leave out for accuracy (nodes_to_exclude) is rounded more coarsely than what they took. Of a ConvTranspose, which
# has no integer kernel, nothing gets faster. A DequantizeLinear with a scale for each channel is not looked at.
#
# Seen: weights of outputs 1 and 1000 times as large; the small ones are zero once the graph is loaded.
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

weight = np.diag([1.0, 1000.0]).astype(np.float32).reshape(2, 2, 1, 1)

def largest(scales, level):
    """What comes out of both channels at most."""
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["": 17]>
        g (uint8[1, 2, 2, 2] x) => (uint8[1, 2, 2, 2] y) {
            a = DequantizeLinear<axis = 1>(x, s, z)  b = Conv(a, w)
            y = QuantizeLinear(b, t, u)
        }""")
    held = {"s": np.full(scales, 0.01, np.float32), "z": np.zeros(scales, np.uint8), "w": weight,
            "t": np.float32(0.01), "u": np.uint8(0)}
    model.graph.initializer.extend(onnx.numpy_helper.from_array(np.asarray(array), name) for name, array in held.items())
    options = ort.SessionOptions()
    options.graph_optimization_level = level
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"x": np.full((1, 2, 2, 2), 100, np.uint8)})
    return found.max((0, 2, 3)).tolist()

levels = ort.GraphOptimizationLevel
plain, loaded, split = largest((), levels.ORT_DISABLE_ALL), largest((), levels.ORT_ENABLE_ALL), largest(2, levels.ORT_ENABLE_ALL)
print(f"as written {plain}, as loaded {loaded}, with a scale for each channel {split}")
assert plain == split == [100, 255]
assert loaded == [0, 255]
EOF
