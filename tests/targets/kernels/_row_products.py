"""A product as quantize-dynamic writes it, and what our kernel of it comes to by its definition."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from scipy.special import erf

Array = NDArray[Any]
EPSILON = 1e-5
ROW = """
  entries = Abs(x) largest = ReduceMax(entries, last) sizes = Max(largest, tiny) even = Div(x, sizes)
  q, s, z = DynamicQuantizeLinear(even) total = MatMulInteger(q, w, z) wide = Cast<to = 1>(total)
  both = Mul(s, scales) scaled = Mul(wide, both) product = Mul(scaled, sizes)
"""
TWICE = """
  q, s, z = DynamicQuantizeLinear(x) back = DequantizeLinear(q, s, z) left = Sub(x, back)
  q2, s2, z2 = DynamicQuantizeLinear(left) total = MatMulInteger(q, w, z) wide = Cast<to = 1>(total)
  both = Mul(s, scales) scaled = Mul(wide, both) total2 = MatMulInteger(q2, w, z2)
  wide2 = Cast<to = 1>(total2) both2 = Mul(s2, scales) again = Mul(wide2, both2) product = Add(scaled, again)
"""


@dataclass(frozen=True)
class Case:
    """A product of random weights [k, n], and what stands beside it."""

    k: int = 48
    n: int = 40
    terms: int = 1
    bias: bool = False
    factors: bool = False
    gelu: bool = False
    norm: bool = False
    seed: int = 0

    @property
    def constants(self) -> dict[str, Array]:
        rng = np.random.default_rng(self.seed)
        return {
            "w": rng.integers(-127, 128, (self.k, self.n)).astype(np.int8),
            "scales": rng.uniform(0.5, 1.5, self.n).astype(np.float32) / 128,
            "b": rng.standard_normal(self.n).astype(np.float32),
            "f": rng.uniform(0.2, 2, self.k).astype(np.float32),
            "gain": rng.uniform(0.5, 1.5, self.n).astype(np.float32),
            "shift": rng.standard_normal(self.n).astype(np.float32),
            "last": np.array([-1]),
            "tiny": np.array(1e-30, np.float32),
        }

    @property
    def text(self) -> str:
        """The graph, x being float[B,S,k]."""
        body, y = (ROW if self.terms == 1 else TWICE), "product"
        if self.factors:
            body = "x = Mul(x0, f)" + body
        for wanted, line in (
            (self.bias, "biased = Add(product, b)"),
            (self.gelu, f"active = Gelu({'biased' if self.bias else 'product'})"),
        ):
            if wanted:
                body, y = f"{body} {line}", line.split()[0]
        if self.norm:
            body += f" sum = Sum({y}, r) y = LayerNormalization<epsilon = {EPSILON}>(sum, gain, shift)"
        else:
            body += f" y = Identity({y})"
        x = "x0" if self.factors else "x"
        inner = y if y != "product" else "product"
        return f"""<ir_version: 10, opset_import: ["" : 23]>
g (float[B,S,{self.k}] {x}, float[B,S,{self.n}] r) => (y) <float[B,S,{self.n}] {inner}> {{ {body} }}"""

    def model(self) -> onnx.ModelProto:
        model = onnx.parser.parse_model(self.text)
        used = {name for node in model.graph.node for name in node.input}
        constants = {name: value for name, value in self.constants.items() if name in used}
        model.graph.initializer.extend(numpy_helper.from_array(v, name) for name, v in constants.items())
        model.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, None))
        if not self.norm:
            model.graph.input.pop()
        return model

    def feeds(self, x: Array) -> dict[str, Array]:
        """x [B,S,k], and what else the model takes."""
        residual = np.random.default_rng(1).standard_normal((*x.shape[:-1], self.n), np.float32)
        feeds = {"x0" if self.factors else "x": x}
        return feeds | {"r": residual} if self.norm else feeds

    def expected(self, feeds: dict[str, Array], **planted: float) -> Array:
        """What it comes to, x rounded by rows; `planted` moves the zero point, or the second scale's part."""
        c, x = self.constants, feeds["x0" if self.factors else "x"]
        x = x * c["f"] if self.factors else x
        y = rounded(x, self.terms, **planted) @ (c["w"].astype(np.float64) * c["scales"])
        y = y + c["b"] if self.bias else y
        y = y * 0.5 * (1 + erf(y / np.sqrt(2))) if self.gelu else y
        if self.norm:
            y = y + feeds["r"]
            y = y - y.mean(-1, keepdims=True)
            y = y / np.sqrt((y * y).mean(-1, keepdims=True) + np.float32(EPSILON)) * c["gain"] + c["shift"]
        return np.asarray(y)


def rounded(x: Array, terms: int, *, off: float = 0, again: float = 1) -> Array:
    """x in float64, each row rounded to 255 steps, and what that leaves to 254 in each of them."""
    low, high = np.minimum(x.min(-1, keepdims=True), 0), np.maximum(x.max(-1, keepdims=True), 0)
    step = high / np.float32(255) - low / np.float32(255)
    some = step >= np.finfo(np.float32).tiny
    step = np.where(some, step, np.float32(0))
    inverse = np.divide(np.float32(1), step, out=np.zeros_like(step), where=some)
    zero = np.rint(np.divide(-low, step, out=np.zeros_like(step), where=some))
    even = (x.astype(np.float64) * inverse + zero).astype(np.float32)  # as one rounding makes it
    whole = np.clip(np.rint(even), 0, 255)
    left = np.rint((even - whole) * 254) / 254 if terms == 2 else 0
    return np.asarray((whole - zero + off + left * again) * step.astype(np.float64))
