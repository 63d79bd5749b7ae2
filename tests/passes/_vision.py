"""Small parts of vision models, and the kernels that they are once they are in integers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort

from graphopt.ir import parse, to_proto

__all__ = ["BLOCKS", "Block", "loaded", "weighted"]


def weighted(x: str, shape: Sequence[int], nodes: str, **weights: np.ndarray) -> ir.Model:
    """A graph from float32 `x` of [N, *shape] to y, of unknown shape, with these initializers."""
    dims = ",".join(map(str, ("N", *shape)))
    model = parse(
        f'<ir_version: 10, opset_import: ["" : 23]>\ng (float[{dims}] {x}) => (float y) {{ {nodes} }}'
    )
    graph = model.graph
    for name, array in weights.items():
        value = ir.Value(name=name, const_value=ir.tensor(array, name=name))
        value.shape, value.type = ir.Shape(array.shape), ir.TensorType(value.const_value.dtype)
        graph.register_initializer(value)
        for node in graph:
            for index, used in enumerate(node.inputs):
                if used is not None and used.name == name:
                    node.replace_input_with(index, value)
    return model


@dataclass(frozen=True)
class Block:
    """`nodes` from x of [N, *shape] to y; weights are drawn, of the shapes given."""

    shape: tuple[int, ...]
    nodes: str
    weights: Mapping[str, tuple[int, ...]]
    kernels: Mapping[str, int]
    constants: Mapping[str, np.ndarray] = field(default_factory=dict)

    def model(self) -> ir.Model:
        rng = np.random.default_rng(0)
        drawn = {
            name: (rng.standard_normal(shape) / np.sqrt(max(np.prod(shape[1:]), 1))).astype(np.float32)
            for name, shape in self.weights.items()
        }
        return weighted("x", self.shape, self.nodes, **drawn, **self.constants)


def loaded(model: ir.Model, optimized: Path | None = None) -> Any:
    """A session on `model`, or the nodes that it became, written to `optimized`."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    if optimized is not None:
        options.optimized_model_filepath = str(optimized)
    session = ort.InferenceSession(to_proto(model).SerializeToString(), options)
    return session if optimized is None else onnx.load(optimized).graph.node


BLOCKS = {
    "residual": Block(
        (8, 8, 8),
        """
        a = Conv<pads = [1, 1, 1, 1]>(x, w1, b1)  b = Relu(a)
        c = Conv<pads = [1, 1, 1, 1]>(b, w2, b2)
        d = Add(c, b)  e = Relu(d)
        f = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(e)
        g = GlobalAveragePool(f)  h = Flatten(g)  y = Gemm<transB = 1>(h, w3, b3)
        """,
        {"w1": (8, 8, 3, 3), "b1": (8,), "w2": (8, 8, 3, 3), "b2": (8,), "w3": (5, 8), "b3": (5,)},
        Counter(
            {
                "QuantizeLinear": 1, "Transpose": 2, "QLinearConv": 2, "QLinearAdd": 1, "NhwcMaxPool": 1,
                "QLinearGlobalAveragePool": 1, "Flatten": 1, "QGemm": 1,
            }
        ),
    ),
    "inverted-residual": Block(
        (8, 8, 8),
        """
        s = Conv(x, w0)  a = Conv(s, w1, b1)  b = HardSwish(a)
        c = Conv<group = 16, pads = [1, 1, 1, 1]>(b, w2, b2)  d = HardSwish(c)
        e = GlobalAveragePool(d)  f = Conv(e, w3, b3)  g = Relu(f)  h = Conv(g, w4, b4)
        i = HardSigmoid<alpha = 0.16666667, beta = 0.5>(h)  j = Mul(i, d)
        k = Conv(j, w5, b5)  l = Add(k, s)  y = Conv(l, w6)
        """,
        {
            "w0": (8, 8, 1, 1),
            "w1": (16, 8, 1, 1), "b1": (16,), "w2": (16, 1, 3, 3), "b2": (16,), "w3": (8, 16, 1, 1),
            "b3": (8,), "w4": (16, 8, 1, 1), "b4": (16,), "w5": (8, 16, 1, 1), "b5": (8,), "w6": (4, 8, 1, 1),
        },
        Counter(
            {
                "QuantizeLinear": 1, "Transpose": 2, "QLinearConv": 7, "QLinearLeakyRelu": 3, "QLinearMul": 3,
                "QLinearGlobalAveragePool": 1, "QLinearAdd": 1, "DequantizeLinear": 1,
            }
        ),
    ),
    "unet": Block(
        (3, 8, 8),
        """
        a = Conv<pads = [1, 1, 1, 1]>(x, w1, b1)  b = Relu(a)
        c = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(b)
        d = Conv<pads = [1, 1, 1, 1]>(c, w2, b2)  e = Relu(d)
        f = ConvTranspose<strides = [2, 2]>(e, w3, b3)
        g = Concat<axis = 1>(f, b)
        y = Conv<pads = [1, 1, 1, 1]>(g, w4, b4)
        """,
        {
            "w1": (8, 3, 3, 3), "b1": (8,), "w2": (16, 8, 3, 3), "b2": (16,), "w3": (16, 8, 2, 2), "b3": (8,),
            "w4": (4, 16, 3, 3), "b4": (4,),
        },
        Counter(
            {
                "QuantizeLinear": 1, "Transpose": 3, "QLinearConv": 4, "NhwcMaxPool": 1, "Reshape": 2,
                "QLinearConcat": 1, "DequantizeLinear": 1,
            }
        ),
    ),
    "means": Block(
        (8, 8, 8),
        """
        a = Conv(x, w1, b1)  m = ReduceMean<keepdims = 1>(a, places)  g = Conv(m, w2, b2)  s = Sigmoid(g)
        b = Mul(a, s)  c = Conv(b, w3)  f = ReduceMean<keepdims = 0>(c, back)  y = Gemm(f, w4, b4)
        """,
        {
            "w1": (8, 8, 1, 1), "b1": (8,), "w2": (8, 8, 1, 1), "b2": (8,), "w3": (8, 8, 1, 1), "w4": (8, 5),
            "b4": (5,),
        },
        Counter(
            {
                "QuantizeLinear": 1, "Transpose": 2, "QLinearConv": 3, "QLinearGlobalAveragePool": 2,
                "QLinearSigmoid": 1, "QLinearMul": 1, "Squeeze": 1, "QGemm": 1,
            }
        ),
        {"places": np.asarray([2, 3]), "back": np.asarray([-1, -2])},
    ),
}  # fmt: skip
"""Parts of ResNet, of MobileNetV3 and of a UNet, and channels that are weighed, as torch exports them."""
