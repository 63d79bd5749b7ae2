"""Pictures in integers that are enlarged, joined or pooled between convolutions, as quantize-static does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

Array = NDArray[Any]


def there_and_back(x: str, y: str, kind: str) -> str:
    """x rounded to `kind` and widened again, as y."""
    return f"{y}q = QuantizeLinear({x}, {kind}s, {kind}z) {y} = DequantizeLinear({y}q, {kind}s, {kind}z)"


def _convolved(x: str, weight: str, y: str, kind: str) -> str:
    return f"""
        {weight}d = DequantizeLinear<axis = 0>({weight}, {weight}s, {weight}z) {y}p = Conv({x}, {weight}d)
        {there_and_back(f"{y}p", y, kind)}
    """


@dataclass(frozen=True)
class Case:
    """Convolutions of x and other give c, of kind a, and o, of kind b; `between` makes m of them.

    Kinds are scales and zero points; `between` may name a third, m.
    """

    between: str
    channels: int = 8
    others: int = 16
    joined: int = 8
    a: tuple[float, int] = (0.05, 98)
    b: tuple[float, int] = (0.06, 77)
    m: tuple[float, int] = (0.03, 31)
    seed: int = 0

    def model(self, **more: Array) -> onnx.ModelProto:
        rng = np.random.default_rng(self.seed)
        constants: dict[str, Array] = dict(more)
        for name, shape in (("w", (self.channels, 4)), ("u", (self.others, 4)), ("v", (8, self.joined))):
            constants[name] = rng.integers(-127, 128, (*shape, 1, 1), np.int8)
            constants[f"{name}s"] = rng.uniform(0.005, 0.02, shape[0]).astype(np.float32)
            constants[f"{name}z"] = np.zeros(shape[0], np.int8)
        for name, (scale, zero) in (("e", (0.04, 113)), ("a", self.a), ("b", self.b), ("m", self.m)):
            constants[f"{name}s"], constants[f"{name}z"] = np.float32(scale), np.uint8(zero)
        model = onnx.parser.parse_model(f"""
            <ir_version: 10, opset_import: ["" : 18]>
            graph (float[N, 4, H, W] x, float[N, 4, I, J] other) => (float[N, 8, K, L] y) {{
              {there_and_back("x", "d", "e")} {there_and_back("other", "f", "e")}
              {_convolved("d", "w", "c", "a")} {_convolved("f", "u", "o", "b")}
              {self.between} {_convolved("m", "v", "y", "e")}
            }}
        """)
        used = {name for node in model.graph.node for name in node.input}
        held = ((name, np.asarray(array)) for name, array in constants.items() if name in used)
        model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in held)
        return model

    def inputs(self, x: tuple[int, int, int], other: tuple[int, int, int]) -> dict[str, Array]:
        """Of so many images, rows and columns."""
        rng = np.random.default_rng(self.seed + 1)
        return {
            name: rng.normal(0.3, 3, (size[0], 4, *size[1:])).astype(np.float32)
            for name, size in (("x", x), ("other", other))
        }
