"""Models with cliffs in them, as tools write them, at any size: for tests, and for a benchmark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

__all__ = [
    "PLANTED",
    "Planted",
    "batch_norm",
    "float_zeros",
    "in_blocks",
    "low_level",
    "optimum_int8",
    "signed_qdq",
    "swish",
    "turned_qdq",
]

Array = NDArray[Any]
Feeds = dict[str, Array]


@dataclass(frozen=True)
class Planted:
    """A model with cliffs, the codes of the rules that find them, and inputs for it."""

    model: onnx.ModelProto
    codes: frozenset[str]
    feeds: Feeds

    def save(self, folder: Path) -> tuple[Path, Path]:
        """The model, and its inputs as .npz."""
        folder.mkdir(parents=True, exist_ok=True)
        onnx.save(self.model, folder / "model.onnx")
        np.savez(folder / "inputs.npz", **self.feeds)
        return folder / "model.onnx", folder / "inputs.npz"


@dataclass
class _Writer:
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)
    known: list[onnx.ValueInfoProto] = field(default_factory=list)

    def op(self, kind: str, inputs: Sequence[str], **attributes: Any) -> str:
        output = f"v{len(self.nodes)}"
        name = f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], name=name, **attributes))
        return output

    def weight(self, array: Any) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def random(self, *shape: int) -> Array:
        return (self.rng.standard_normal(shape) / np.sqrt(shape[-2] if len(shape) == 2 else 9)).astype(
            np.float32
        )

    def model(
        self, inputs: dict[str, Sequence[Any]], y: str, shape: Sequence[Any], opset: int
    ) -> onnx.ModelProto:
        self.nodes.append(helper.make_node("Identity", [y], ["y"], name="last"))
        graph = helper.make_graph(
            self.nodes,
            "planted",
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name, dims in inputs.items()],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
            self.weights,
            value_info=self.known,
        )
        opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
        onnx.checker.check_model(model)
        return model

    def norm(self, x: str, width: int) -> str:
        """LayerNormalization as exporters of opset 16 and below spell it."""
        centered = self.op("Sub", [x, self.op("ReduceMean", [x], axes=[-1])])
        squares = self.op("Pow", [centered, self.weight(np.float32(2))])
        variance = self.op("ReduceMean", [squares], axes=[-1])
        spread = self.op("Sqrt", [self.op("Add", [variance, self.weight(np.float32(1e-5))])])
        normal = self.op("Div", [centered, spread])
        scaled = self.op("Mul", [normal, self.weight(1 + 0.1 * self.random(1, width)[0])])
        return self.op("Add", [scaled, self.weight(self.random(1, width)[0])])

    def linear(self, x: str, taken: int, given: int) -> str:
        product = self.op("MatMul", [x, self.weight(self.random(taken, given))])
        return self.op("Add", [product, self.weight(self.random(1, given)[0])])

    def attention(self, x: str, width: int, heads: int) -> str:
        size = width // heads

        def split(perm: list[int]) -> str:
            shape = self.weight(np.asarray([0, 0, heads, size], np.int64))
            heads_apart = self.op("Reshape", [self.linear(x, width, width), shape])
            return self.op("Transpose", [heads_apart], perm=perm)

        query, key, value = split([0, 2, 1, 3]), split([0, 2, 3, 1]), split([0, 2, 1, 3])
        scores = self.op("MatMul", [query, key])
        scaled = self.op("Div", [scores, self.weight(np.float32(np.sqrt(size)))])
        mixed = self.op("MatMul", [self.op("Softmax", [scaled], axis=-1), value])
        shape = self.weight(np.asarray([0, 0, width], np.int64))
        joined = self.op("Reshape", [self.op("Transpose", [mixed], perm=[0, 2, 1, 3]), shape])
        return self.linear(joined, width, width)

    def gelu(self, x: str) -> str:
        erf = self.op("Erf", [self.op("Div", [x, self.weight(np.float32(np.sqrt(2)))])])
        half = self.op("Mul", [x, self.op("Add", [erf, self.weight(np.float32(1))])])
        return self.op("Mul", [half, self.weight(np.float32(0.5))])

    def rounded(self, x: str, scale: float, zero: Any) -> str:
        s, z = self.weight(np.float32(scale)), self.weight(zero)
        return self.op("DequantizeLinear", [self.op("QuantizeLinear", [x, s, z]), s, z])

    def stored(self, array: Array, axis: int) -> str:
        """A float weight as int8 with a scale for each place of `axis`."""
        others = tuple(i for i in range(array.ndim) if i != axis)
        scale = (np.abs(array).max(others) / 127).astype(np.float32)
        levels = np.rint(array / np.expand_dims(scale, others)).astype(np.int8)
        zero = self.weight(np.zeros(len(scale), np.int8))
        return self.op("DequantizeLinear", [self.weight(levels), self.weight(scale), zero], axis=axis)


def encoder(width: int, heads: int, layers: int, opset: int = 13) -> onnx.ModelProto:
    """A transformer encoder over float [batch, sequence, width], spelled out as exporters did."""
    made, x = _Writer(), "x"
    for _ in range(layers):
        x = made.norm(made.op("Add", [x, made.attention(x, width, heads)]), width)
        inner = made.gelu(made.linear(x, width, 4 * width))
        x = made.norm(made.op("Add", [x, made.linear(inner, 4 * width, width)]), width)
    dims = ["batch", "sequence", width]
    return made.model({"x": dims}, x, dims, opset)


def optimum_int8(
    folder: Path, *, width: int = 64, heads: int = 4, layers: int = 2, batch: int = 2, sequence: int = 12
) -> Planted:
    """An encoder after onnxruntime's quantize_dynamic with weights by channel, which is what optimum runs."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(encoder(width, heads, layers), folder / "float.onnx")
    quantize_dynamic(
        folder / "float.onnx", folder / "int8.onnx", per_channel=True, weight_type=QuantType.QInt8
    )
    x = np.random.default_rng(1).standard_normal((batch, sequence, width)).astype(np.float32)
    return Planted(onnx.load(folder / "int8.onnx"), frozenset({"GO201", "GO203"}), {"x": x})


def in_blocks(
    codes: str,
    *,
    width: int = 128,
    layers: int = 2,
    rows: int = 1,
    bits: int = 4,
    block: int = 64,
    level: int = 4,
    float_zeros: bool = False,
    ordered: bool = False,
) -> Planted:
    """Products with weights in blocks, and whatever may be said of them."""
    made, x = _Writer(), "x"
    blocks = width // block
    for _ in range(layers):
        packed = made.rng.integers(0, 256, (width, blocks, block * bits // 8)).astype(np.uint8)
        scales = made.rng.uniform(0.1, 0.3, (width, blocks)).astype(np.float32) / np.float32(np.sqrt(width))
        inputs = [x, made.weight(packed), made.weight(scales)]
        if float_zeros:
            inputs.append(made.weight(made.rng.uniform(6, 9, (width, blocks)).astype(np.float32)))
        if ordered:
            inputs += ["", made.weight(np.repeat(np.arange(blocks, dtype=np.int32), block))]
        x = made.op(
            "MatMulNBits",
            inputs,
            domain="com.microsoft",
            K=width,
            N=width,
            bits=bits,
            block_size=block,
            accuracy_level=level,
        )
        # As quantizers leave what the exporter wrote: onnx infers no types of onnxruntime's operators.
        made.known.append(helper.make_tensor_value_info(x, TensorProto.FLOAT, ["rows", width]))
        x = made.op("Tanh", [x])
    feeds = {"x": np.random.default_rng(1).standard_normal((rows, width)).astype(np.float32)}
    model = made.model({"x": ["rows", width]}, x, ["rows", width], 21)
    return Planted(model, frozenset(codes.split()), feeds)


def float_zeros(folder: Path, **sizes: int) -> Planted:
    """4-bit weights in blocks of 64 with zero points in floats, as HQQ's quantizer writes them."""
    return in_blocks("GO102", level=0, float_zeros=True, **sizes)


def low_level(folder: Path, **sizes: int) -> Planted:
    """Weights in blocks of an accuracy level that computes in floats."""
    return in_blocks("GO101", level=0, **sizes)


def swish(folder: Path, *, width: int = 128, rows: int = 4, layers: int = 2) -> Planted:
    """Swish of opset 24."""
    made, x = _Writer(), "x"
    for _ in range(layers):
        x = made.op("Tanh", [made.op("Swish", [x])])
    feeds = {"x": np.random.default_rng(1).standard_normal((rows, width)).astype(np.float32)}
    model = made.model({"x": ["rows", width]}, x, ["rows", width], 24)
    return Planted(model, frozenset({"GO107"}), feeds)


def turned_qdq(folder: Path, *, width: int = 128, layers: int = 2, rows: int = 1) -> Planted:
    """4-bit weights [out, in] in blocks of 32, as PyTorch lies: DequantizeLinear, Transpose, MatMul."""
    made, x, block = _Writer(), "x", 32
    for _ in range(layers):
        name = f"w{len(made.weights)}"
        levels = made.rng.integers(0, 256, width * width // 2).astype(np.uint8).tobytes()
        made.weights.append(helper.make_tensor(name, TensorProto.INT4, [width, width], levels, raw=True))
        scales = made.rng.uniform(0.1, 0.3, (width, width // block)) / np.sqrt(width)
        inputs = [name, made.weight(scales.astype(np.float32))]
        w = made.op("DequantizeLinear", inputs, axis=1, block_size=block)
        x = made.op("Tanh", [made.op("MatMul", [x, made.op("Transpose", [w], perm=[1, 0])])])
    feeds = {"x": np.random.default_rng(1).standard_normal((rows, width)).astype(np.float32)}
    model = made.model({"x": ["rows", width]}, x, ["rows", width], 21)
    return Planted(model, frozenset({"GO108"}), feeds)


def batch_norm(folder: Path, *, channels: int = 8, layers: int = 2, size: int = 12) -> Planted:
    """Convolutions, each with a BatchNormalization behind it, and one before a ConvTranspose's."""
    made, x, taken = _Writer(), "x", 3
    for index in range(layers):
        kind = "ConvTranspose" if index % 2 else "Conv"
        weight = made.random(*((taken, channels) if index % 2 else (channels, taken)), 3, 3)
        x = made.op(kind, [x, made.weight(weight)], pads=[1, 1, 1, 1])
        draw = made.rng.uniform
        settings = [draw(0.5, 1.5, channels), draw(-1, 1, channels), draw(-1, 1, channels)]
        settings.append(draw(0.5, 2, channels))
        given = [made.weight(each.astype(np.float32)) for each in settings]
        x, taken = made.op("Relu", [made.op("BatchNormalization", [x, *given])]), channels
    feeds = {"x": np.random.default_rng(1).standard_normal((1, 3, size, size)).astype(np.float32)}
    model = made.model({"x": ["batch", 3, size, size]}, x, ["batch", channels, size, size], 17)
    return Planted(model, frozenset({"GO205"}), feeds)


def signed_qdq(folder: Path, *, channels: int = 8, layers: int = 2, size: int = 12) -> Planted:
    """Convolutions between QuantizeLinear and DequantizeLinear of int8, as quantize_static writes them."""
    made, taken = _Writer(), 3
    x = made.rounded("x", 0.03, np.int8(0))
    for _ in range(layers):
        weight = made.stored(made.random(channels, taken, 3, 3), 0)
        positive = made.op("Relu", [made.op("Conv", [x, weight], pads=[1, 1, 1, 1])])
        x = made.rounded(positive, 0.02, np.int8(-128))
        taken = channels
    feeds = {"x": np.random.default_rng(1).standard_normal((1, 3, size, size)).astype(np.float32)}
    model = made.model({"x": ["batch", 3, size, size]}, x, ["batch", channels, size, size], 17)
    return Planted(model, frozenset({"GO109"}), feeds)


PLANTED = {
    "an optimum-style int8 file": optimum_int8,
    "zero points in floats": float_zeros,
    "DequantizeLinear, Transpose, MatMul": turned_qdq,
    "BatchNormalization left in": batch_norm,
    "signed activations": signed_qdq,
    "Swish": swish,
    "an accuracy level of 0": low_level,
}
