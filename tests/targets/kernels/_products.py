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
    k: int,
    n: int,
    block: int,
    bits: int = 4,
    *,
    zeros: bool | Array = False,
    bias: bool = False,
    seed: int = 0,
    **changes: Any,
) -> onnx.ModelProto:
    """x [.., k] times random weights of so many bits; `changes` are attributes, or initializers by name.

    Weights beyond k in the last block are random, too: they count for nothing.
    """
    rng = np.random.default_rng(seed)
    blocks = -(-k // block)
    constants = {
        "w": rng.integers(0, 256, (n, blocks, block * bits // 8), np.uint8),
        "scales": rng.uniform(0.5, 1.5, (n, blocks)).astype(np.float32),
    }
    if zeros is not False:
        random = rng.integers(0, 256, (n, -(-blocks * bits // 8)), np.uint8)
        constants["zeros"] = random if zeros is True else zeros
    if bias:
        constants["bias"] = rng.standard_normal(n).astype(np.float32)
    says = {"K": k, "N": n, "bits": bits, "block_size": block, "accuracy_level": 4}
    constants |= {name: value for name, value in changes.items() if isinstance(value, np.ndarray)}
    says |= {name: value for name, value in changes.items() if isinstance(value, int)}
    inputs = ["x", "w", "scales", "zeros" if "zeros" in constants else "", "", "bias" if bias else ""]
    while not inputs[-1]:
        inputs.pop()
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


def rounded(x: Array, block: int, levels: int) -> Array:
    """x as integers up to `levels` of one scale a block, in float64."""
    rows, k = x.shape
    parts = np.pad(x, ((0, 0), (0, -k % block))).reshape(-1, block)
    scales = np.abs(parts).max(-1, keepdims=True) / np.float32(levels)
    inverse = np.divide(np.float32(1), scales, out=np.zeros_like(scales), where=scales != 0)
    return (np.rint(parts * inverse).astype(np.float64) * scales).reshape(rows, -1)[:, :k]


def numbers(packed: Array, bits: int) -> Array:
    """uint8[.., bytes] as integers of so many bits, the lowest of a byte first."""
    places = np.arange(0, 8, bits, dtype=np.uint8)
    return (packed[..., None] >> places & ((1 << bits) - 1)).reshape(*packed.shape[:-1], -1)


def expected(model: onnx.ModelProto, x: Array) -> Array:
    """The product of x, rounded to int8, for 8 bits to int16, with the weights, in float64."""
    says = _says(model)
    levels = 32767 if says["bits"] == 8 else 127
    return exact(model, rounded(x, says["block_size"], levels))


def _says(model: onnx.ModelProto) -> Mapping[str, int]:
    return {a.name: a.i for a in model.graph.node[0].attribute}


def exact(model: onnx.ModelProto, x: Array) -> Array:
    """The product of x with the weights, in float64."""
    says = _says(model)
    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    k, n, block, bits = says["K"], says["N"], says["block_size"], says["bits"]
    blocks = -(-k // block)
    zeros: Array = np.full((n, blocks), 1 << (bits - 1))
    if "zeros" in constants:
        zeros = numbers(constants["zeros"], bits)[:, :blocks]
    whole = numbers(constants["w"].reshape(n, -1), bits).reshape(n, blocks, block) - zeros[..., None].astype(
        float
    )
    weights = (whole * constants["scales"].reshape(n, blocks, 1)).reshape(n, -1)[:, :k]
    return x.astype(float) @ weights.T + constants.get("bias", 0)
