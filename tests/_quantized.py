"""Models that are quantized already, as tools write them: integers, and nodes that round to them and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["half_network", "images", "qdq_network", "stored_in_int8"]

Array = np.ndarray[Any, Any]


@dataclass
class _Writer:
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)

    def op(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def weight(self, name: str, array: Any) -> str:
        self.weights.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def rounded(self, x: str, largest: float, zero: int = 128) -> str:
        """`x` to uint8 and back; `zero` is 0 for values of one sign."""
        s = self.weight(f"{x}/scale", np.float32(largest / (255 - zero)))
        z = self.weight(f"{x}/zero", np.uint8(zero))
        return self.op("DequantizeLinear", [self.op("QuantizeLinear", [x, s, z], f"{x}/q"), s, z], f"{x}/dq")

    def stored(self, name: str, array: Array, axis: int = 0) -> str:
        """A float weight as int8 with a scale for each place of `axis`."""
        others = tuple(i for i in range(array.ndim) if i != axis)
        scale = np.abs(array).max(others).astype(np.float32) / np.float32(127)
        levels = np.rint(array / np.expand_dims(scale, others)).astype(np.int8)
        s = self.weight(f"{name}/scale", scale)
        z = self.weight(f"{name}/zero", np.zeros(len(scale), np.int8))
        return self.op("DequantizeLinear", [self.weight(name, levels), s, z], f"{name}/dq", axis=axis)

    def model(
        self, x: Sequence[Any], y: Sequence[Any], opset: int, kind: int = TensorProto.FLOAT
    ) -> onnx.ModelProto:
        inputs = [helper.make_tensor_value_info("x", kind, x)]
        outputs = [helper.make_tensor_value_info("y", kind, y)]
        graph = helper.make_graph(self.nodes, "quantized", inputs, outputs, self.weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def qdq_network(channels: int = 16, opset: int = 17) -> onnx.ModelProto:
    """Convolutions with a residual sum and a classifier, float [N, 3, 8, 8] to [N, 10], all of it QDQ."""
    rng, made = np.random.default_rng(0), _Writer()

    def random(*shape: int) -> Array:
        return rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))

    def convolved(x: str, name: str, taken: int) -> str:
        w = made.stored(f"{name}/w", random(channels, taken, 3, 3))
        return made.op("Conv", [x, w], name, pads=[1, 1, 1, 1])

    x = made.rounded("x", 4)
    first = made.rounded(made.op("Relu", [convolved(x, "a", 3)], "a/relu"), 3, 0)
    second = made.rounded(convolved(first, "b", channels), 3)
    both = made.rounded(made.op("Relu", [made.op("Add", [second, first], "sum")], "sum/relu"), 4, 0)
    third = made.rounded(made.op("Relu", [convolved(both, "c", channels)], "c/relu"), 3, 0)
    pooled = made.rounded(made.op("GlobalAveragePool", [third], "pooled"), 2, 0)
    flat = made.rounded(made.op("Flatten", [pooled], "flat"), 2, 0)
    classes = made.op("Gemm", [flat, made.stored("classes/w", 3 * random(10, channels))], "classes", transB=1)
    made.op("Identity", [made.rounded(classes, 5)], "y")
    return made.model(["N", 3, 8, 8], ["N", 10], opset)


def half_network(epsilon: float = 1e-5, layers: int = 3, size: int = 64) -> onnx.ModelProto:
    """Normalized layers with a residual sum, float16 [N, size] to float16 [N, size]."""
    rng, made, x = np.random.default_rng(0), _Writer(), "x"
    for index in range(layers):
        scale, shift = 1 + rng.standard_normal(size) / 10, rng.standard_normal(size) / 10
        wide, narrow = (rng.standard_normal(shape) / 8 for shape in ((size, 2 * size), (2 * size, size)))
        arrays = {"scale": scale, "shift": shift, "wide": wide, "narrow": narrow / 2}
        w = {k: made.weight(f"{k}{index}", a.astype(np.float16)) for k, a in arrays.items()}
        norm = [x, w["scale"], w["shift"]]
        normed = made.op("LayerNormalization", norm, f"norm{index}", epsilon=epsilon)
        inner = made.op("Tanh", [made.op("MatMul", [normed, w["wide"]], f"wide{index}/y")], f"tanh{index}")
        x = made.op("Add", [made.op("MatMul", [inner, w["narrow"]], f"narrow{index}/y"), x], f"sum{index}")
    made.op("Identity", [x], "y")
    return made.model(["N", size], ["N", size], 17, TensorProto.FLOAT16)


def stored_in_int8(factor: float = 1.0) -> onnx.ModelProto:
    """A product with a weight that is stored in int8, float [N, 64] to [N, 96], multiplied by `factor`."""
    made, w = _Writer(), np.random.default_rng(0).standard_normal((64, 96)) / 8
    product = made.op("MatMul", ["x", made.stored("w", w, axis=1)], "product")
    made.op("Mul", [product, made.weight("factor", np.float32(factor))], "y")
    return made.model(["N", 64], ["N", 96], 21)


def images(count: int = 64) -> Array:
    """Inputs of `qdq_network`."""
    return np.random.default_rng(1).standard_normal((count, 3, 8, 8)).astype(np.float32)
