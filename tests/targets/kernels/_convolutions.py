"""A convolution of integers as quantize-static writes it, and what it comes to by its definition."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

Array = NDArray[Any]
AFTER = {
    "": "",
    "silu": "g = Sigmoid(c) gq = QuantizeLinear(g, gs, gz) gd = DequantizeLinear(gq, gs, gz) a = Mul(c, gd)",
    "leaky": "a = LeakyRelu<alpha = 0.1>(c)",
    "leaky twice": """
        g = LeakyRelu<alpha = 0.1>(c) gq = QuantizeLinear(g, gs, gz) gd = DequantizeLinear(gq, gs, gz)
        a = LeakyRelu<alpha = 0.5>(gd)
    """,
}
"""What lies between the convolution's result c and a, the input of another one, in integers, too."""


@dataclass(frozen=True)
class Case:
    """A convolution with random weights [outputs, channels / group, *kernel], of images of any size."""

    channels: int = 8
    outputs: int = 8
    group: int = 1
    kernel: tuple[int, int] = (3, 3)
    strides: tuple[int, int] = (1, 1)
    dilations: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    x_zero: int = 113
    y_zero: int = 98
    y_scale: float = 0.05
    bias: bool = True
    after: str = ""
    seed: int = 0

    def constants(self) -> dict[str, Array]:
        rng = np.random.default_rng(self.seed)
        shape = (self.outputs, self.channels // self.group, *self.kernel)
        size = np.float32(0.02 / np.prod(shape[1:]) ** 0.5)
        scales = rng.uniform(0.5, 2, self.outputs).astype(np.float32) * size
        scalars = {"xs": 0.04, "ys": self.y_scale, "gs": 1 / 255, "as": 0.03}
        zeros = {"xz": self.x_zero, "yz": self.y_zero, "gz": 0, "az": 31}
        found: dict[str, Array] = {
            "w": rng.integers(-127, 128, shape, np.int8),
            "ws": scales,
            "wz": np.zeros(self.outputs, np.int8),
            "b": rng.integers(-9000, 9000, self.outputs, np.int32),
            "bs": np.float32(0.04) * scales,
            "bz": np.zeros(self.outputs, np.int32),
            "v": rng.integers(-127, 128, (8, self.outputs, 1, 1), np.int8),
            "vs": np.full(8, 0.001, np.float32),
            "vz": np.zeros(8, np.int8),
        }
        found |= {name: np.asarray(value, np.float32) for name, value in scalars.items()}
        return found | {name: np.asarray(value, np.uint8) for name, value in zeros.items()}

    def model(self, **planted: Array) -> onnx.ModelProto:
        constants = self.constants() | planted
        bias = "bd = DequantizeLinear<axis = 0>(b, bs, bz)" if self.bias else ""
        after = f"""
            {AFTER[self.after]} aq = QuantizeLinear(a, as, az) ad = DequantizeLinear(aq, as, az)
            vd = DequantizeLinear<axis = 0>(v, vs, vz) t = Conv(ad, vd)
            tq = QuantizeLinear(t, ys, yz) y = DequantizeLinear(tq, ys, yz)
        """
        says = ", ".join(
            f"{name} = [{', '.join(map(str, value))}]"
            for name, value in (
                ("kernel_shape", self.kernel),
                ("strides", self.strides),
                ("dilations", self.dilations),
                ("pads", self.pads),
            )
        )
        outputs = 8 if self.after else self.outputs
        model = onnx.parser.parse_model(f"""
            <ir_version: 10, opset_import: ["" : 18]>
            graph (float[N, {self.channels}, H, W] x) => (float[N, {outputs}, I, J] y) {{
              q = QuantizeLinear(x, xs, xz) d = DequantizeLinear(q, xs, xz)
              wd = DequantizeLinear<axis = 0>(w, ws, wz) {bias}
              p = Conv<group = {self.group}, {says}>(d, wd{", bd" if self.bias else ""})
              cq = QuantizeLinear(p, ys, yz)
              {"c" if self.after else "y"} = DequantizeLinear(cq, ys, yz) {after if self.after else ""}
            }}
        """)
        used = {name for node in model.graph.node for name in node.input}
        model.graph.initializer.extend(
            numpy_helper.from_array(np.asarray(array), name)
            for name, array in constants.items()
            if name in used
        )
        return model

    def images(self, count: int, height: int, width: int) -> Array:
        """Of which some are beyond what integers can say."""
        rng = np.random.default_rng(self.seed + 1)
        return rng.normal(0.3, 3, (count, self.channels, height, width)).astype(np.float32)

    def expected(self, x: Array, **planted: Array) -> Array:
        """y before what comes after it, by the definitions of QuantizeLinear and QLinearConv."""
        c = self.constants() | planted
        q = np.clip(np.rint(x / c["xs"]) + c["xz"].astype(np.float32), 0, 255).astype(np.int32) - int(c["xz"])
        (top, left, bottom, right), (high, wide) = self.pads, self.kernel
        q = np.pad(q, ((0, 0), (0, 0), (top, bottom), (left, right)))
        rows, columns = (
            (q.shape[2 + i] - (self.kernel[i] - 1) * self.dilations[i] - 1) // self.strides[i] + 1
            for i in (0, 1)
        )
        total = np.zeros((x.shape[0], self.outputs, rows, columns), np.int32)
        apart = q.reshape(x.shape[0], self.group, -1, *q.shape[2:])
        weights = c["w"].astype(np.int32).reshape(self.group, -1, *c["w"].shape[1:])
        for i in range(high):
            for j in range(wide):
                down, across = i * self.dilations[0], j * self.dilations[1]
                seen = apart[
                    :,
                    :,
                    :,
                    down : down + (rows - 1) * self.strides[0] + 1 : self.strides[0],
                    across : across + (columns - 1) * self.strides[1] + 1 : self.strides[1],
                ]
                total += np.einsum("ngchw,goc->ngohw", seen, weights[..., i, j]).reshape(total.shape)
        if self.bias:
            total += c["b"][:, None, None]
        factors = c["xs"] * c["ws"] / c["ys"]
        exact = np.rint(total.astype(np.float32) * factors[:, None, None])
        whole = np.clip(exact + c["yz"].astype(np.float32), 0, 255)
        return (whole - c["yz"].astype(np.float32)) * c["ys"]
