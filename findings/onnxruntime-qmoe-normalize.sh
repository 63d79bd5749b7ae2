#!/usr/bin/env bash
# `QMoE` is `MoE` with quantized weights, and has its attributes. A good engineer would expect `normalize_routing_weights=0` to leave
# the weights of the chosen experts as softmax gives them. On the CPU provider of onnxruntime 1.32.0 MoE does so; QMoE ignores the
# 0 and normalizes. (Its input `router_weights` takes weights as they are.)
#
# Seen: four equal experts, two chosen at a weight of 1/4 each: MoE gives 8 for 0 and 16 for 1, QMoE 16 for both.
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

EXPERTS, SIZE = 4, 32


def model(operator, normalize):
    shape, packed = (EXPERTS, SIZE, SIZE), (EXPERTS, SIZE, SIZE // 2)
    if operator == "MoE":
        inputs, attributes = ["x", "router", "w1", "", "w2"], {}
        weights = {name: np.full(shape, 0.125, np.float32) for name in ("w1", "w2")}
    else:  # 9, less a zero point of 8, times a scale of 1/8
        inputs, attributes = ["x", "router", "w1", "s1", "", "w2", "s2"], {"expert_weight_bits": 4}
        weights = {name: np.full(packed, 0x99, np.uint8) for name in ("w1", "w2")}
        weights |= {name: np.full((EXPERTS, SIZE), 0.125, np.float32) for name in ("s1", "s2")}
    node = helper.make_node(
        operator,
        inputs,
        ["y"],
        domain="com.microsoft",
        k=2,
        activation_type="identity",
        normalize_routing_weights=normalize,
        **attributes,
    )
    graph = helper.make_graph(
        [node],
        "net",
        [helper.make_tensor_value_info("x", 1, [1, SIZE]), helper.make_tensor_value_info("router", 1, [1, EXPERTS])],
        [helper.make_tensor_value_info("y", 1, [1, SIZE])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def run(model, feeds):
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)[0]

feeds = {"x": np.ones((1, SIZE), np.float32), "router": np.zeros((1, EXPERTS), np.float32)}
for operator, expected in (("MoE", (8, 16)), ("QMoE", (16, 16))):
    found = tuple(float(run(model(operator, normalize), feeds)[0, 0]) for normalize in (0, 1))
    print(operator, *found)
    assert found == expected
EOF
