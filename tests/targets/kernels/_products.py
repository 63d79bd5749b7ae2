"""One MatMulNBits, and what it comes to by the operator's definition and by the arithmetic of its kernels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[Any]


def product(
    k: int, n: int, block: int, bits: int = 4, *, bias: bool = False, seed: int = 0, **changes: Any
) -> onnx.ModelProto:
    """x [.., k] times random weights of so many bits; `changes` are attributes, or initializers by name."""
    rng = np.random.default_rng(seed)
    constants = {
        "w": rng.integers(0, 256, (n, k // block, block * bits // 8), np.uint8),
        "scales": rng.uniform(0.5, 1.5, (n, k // block)).astype(np.float32),
    }
    if bias:
        constants["bias"] = rng.standard_normal(n).astype(np.float32)
    says = {"K": k, "N": n, "bits": bits, "block_size": block, "accuracy_level": 4}
    constants |= {name: value for name, value in changes.items() if isinstance(value, np.ndarray)}
    says |= {name: value for name, value in changes.items() if isinstance(value, int)}
    inputs = ["x", "w", "scales", *(["", "", "bias"] if bias else [])]
    node = helper.make_node("MatMulNBits", inputs, ["y"], domain="com.microsoft", **says)
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, None)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    imports = [helper.make_opsetid("", 23), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=10)


def rounded(x: Array, block: int) -> Array:
    """x as int8 of one scale a block, in float64."""
    parts = x.reshape(-1, block)
    scales = np.abs(parts).max(-1, keepdims=True) / np.float32(127)
    inverse = np.divide(np.float32(1), scales, out=np.zeros_like(scales), where=scales != 0)
    return (np.rint(parts * inverse).astype(np.float64) * scales).reshape(x.shape)


def expected(model: onnx.ModelProto, x: Array) -> Array:
    """The product of the rounded x with the weights, in float64."""
    says: Mapping[str, int] = {a.name: a.i for a in model.graph.node[0].attribute}
    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    k, n, block = says["K"], says["N"], says["block_size"]
    packed = constants["w"].reshape(n, -1)
    numbers = np.stack([packed & 15, packed >> 4], -1) - 8.0 if says["bits"] == 4 else packed - 128.0
    numbers = numbers.reshape(n, k // block, block)
    weights = (numbers * constants["scales"].reshape(n, k // block, 1)).reshape(n, k)
    return rounded(x, block) @ weights.T + constants.get("bias", 0)
