"""Small decoders as the raise passes leave them, built by hand, and legal calls of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnx.shape_inference
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper

from graphopt.families import Case, InputDomain, Padding

Array = np.ndarray[Any, Any]
_END = np.iinfo(np.int64).max
_ORDER = [0, 2, 1, 3]


@dataclass(frozen=True)
class Shape:
    """What a decoder looks like.

    `rotary`: width of the rotated part of a head, None for no rotation. `windows`: sliding windows of the
    layers in turn, None for all keys. `norm`: rms | layer. `qk_norm`: None | "before" | "after" the heads are
    moved in front of the sequence. `projection`: separate | split (a MatMul, then Split) | slices.
    `sandwich`: Gemma's norms before each residual Add. `padding`: whether there is an attention_mask.
    """

    layers: int = 2
    hidden: int = 48
    heads: int = 4
    kv_heads: int = 2
    head: int = 16
    ffn: int = 64
    vocab: int = 53
    positions: int = 48
    rotary: int | None = 16
    interleaved: bool = False
    norm: str = "rms"
    qk_norm: str | None = None
    bias: bool = False
    windows: tuple[int | None, ...] = (None,)
    softcap: float = 0.0
    final_softcap: float = 0.0
    scale: float | None = None
    projection: str = "separate"
    sandwich: bool = False
    learned_positions: bool = False
    act: str = "silu"
    padding: bool = True


GPT2 = Shape(
    norm="layer", bias=True, kv_heads=4, rotary=None, learned_positions=True, projection="split", act="gelu"
)
GEMMA2 = Shape(windows=(3, None), softcap=5.0, final_softcap=4.0, scale=0.3, sandwich=True, act="gelu")


class _Graph:
    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self._constants: dict[bytes, str] = {}

    def op(
        self, op_type: str, *inputs: str, result: str | None = None, outs: int = 1, **attributes: Any
    ) -> Any:
        base = result or f"n{len(self.nodes)}"
        names = [base] if outs == 1 else [f"{base}_{i}" for i in range(outs)]
        self.nodes.append(
            helper.make_node(op_type, list(inputs), names, name=f"{base}/{op_type}", **attributes)
        )
        return names[0] if outs == 1 else names

    def weight(self, name: str, *shape: int, scale: float | None = None, around: float = 0.0) -> str:
        spread = scale if scale is not None else shape[0] ** -0.5
        array = (around + spread * self.rng.standard_normal(shape)).astype(np.float32)
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def const(self, array: Any, dtype: Any = np.int64) -> str:
        value = np.asarray(array, dtype)
        key = value.dtype.str.encode() + str(value.shape).encode() + value.tobytes()
        if key not in self._constants:
            self._constants[key] = f"c{len(self._constants)}"
            self.weights.append(numpy_helper.from_array(value, self._constants[key]))
        return self._constants[key]

    def table(self, name: str, array: Array) -> str:
        if all(w.name != name for w in self.weights):
            self.weights.append(numpy_helper.from_array(array.astype(np.float32), name))
        return name


def canonical_decoder(shape: Shape | None = None, seed: int = 0) -> ir.Model:
    """A causal language model with the interface that exports have, in canonical form at opset 23."""
    s = shape or Shape()
    g = _Graph(seed)
    x = g.op("Gather", g.weight("embed.weight", s.vocab, s.hidden, scale=1.0), "input_ids")
    if s.learned_positions:
        x = g.op(
            "Add",
            x,
            g.op("Gather", g.weight("positions.weight", s.positions, s.hidden, scale=0.3), "position_ids"),
        )
    masks = {w: _mask(g, s, w) for w in dict.fromkeys(s.windows)}
    for layer in range(s.layers):
        x = _layer(g, s, layer, x, masks[s.windows[layer % len(s.windows)]])
    x = _norm(g, s, x, "final")
    logits = g.op(
        "MatMul", x, g.weight("head.weight", s.hidden, s.vocab), result=None if s.final_softcap else "logits"
    )
    if s.final_softcap:
        cap = g.const(s.final_softcap, np.float32)
        g.op("Mul", g.op("Tanh", g.op("Div", logits, cap)), cap, result="logits")
    return _finish(g, s)


def _finish(g: _Graph, s: Shape) -> ir.Model:
    def info(name: str, kind: int, *dims: int | str) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, kind, dims)

    inputs = [
        info("input_ids", TensorProto.INT64, "batch", "sequence"),
        *([info("attention_mask", TensorProto.INT64, "batch", "total")] if s.padding else []),
        info("position_ids", TensorProto.INT64, "batch", "sequence"),
    ]
    outputs = [info("logits", TensorProto.FLOAT, "batch", "sequence", s.vocab)]
    for layer in range(s.layers):
        for kind in ("key", "value"):
            dims = ("batch", s.kv_heads)
            inputs.append(info(f"past_key_values.{layer}.{kind}", TensorProto.FLOAT, *dims, "past", s.head))
            outputs.append(info(f"present.{layer}.{kind}", TensorProto.FLOAT, *dims, "total", s.head))
    graph = helper.make_graph(g.nodes, "decoder", inputs, outputs, g.weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)
    model = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    made = ir.from_proto(model)
    _name_dims(made, s)
    return made


def _name_dims(model: ir.Model, s: Shape) -> None:
    """Names batch and sequence where inference lost them, as exporters do."""
    for node in model.graph:
        for value in node.outputs:
            if value.shape is None or len(value.shape) < 3 or value.dtype != ir.DataType.FLOAT:
                continue
            dims: list[int | str] = [d if isinstance(d, int) else d.value for d in value.shape]  # type: ignore[misc]
            dims[0] = "batch"
            if len(dims) == 3:
                dims[1] = "sequence"
                if not isinstance(dims[2], int) and node.op_type == "Reshape":
                    dims[2] = s.heads * s.head
            elif isinstance(dims[1], int):
                dims[2] = dims[2] if dims[2] == "total" else "sequence"
            elif dims[3] == s.head:
                dims[1] = "sequence"
            value.shape = ir.Shape(dims)


def _mask(g: _Graph, s: Shape, window: int | None) -> str:
    """bool[batch, 1, sequence, total]: a key is seen if it is a token, not later, and near enough."""
    sequence = g.op("Shape", "input_ids", start=1, end=2)
    past = g.op("Shape", "past_key_values.0.key", start=2, end=3)
    total = g.op("Add", past, sequence)
    zero, one = g.const(0), g.const(1)
    flat = g.const([])
    q = g.op("Range", g.op("Reshape", past, flat), g.op("Reshape", total, flat), one)
    k = g.op("Range", zero, g.op("Reshape", total, flat), one)
    distance = g.op("Sub", g.op("Unsqueeze", q, g.const([1])), g.op("Unsqueeze", k, g.const([0])))
    seen = g.op("GreaterOrEqual", distance, zero)
    if window is not None:
        seen = g.op("And", seen, g.op("Less", distance, g.const(window)))
    if not s.padding:
        return str(g.op("Unsqueeze", seen, g.const([0, 1])))
    padding = g.op("Unsqueeze", g.op("Cast", "attention_mask", to=TensorProto.BOOL), g.const([1, 2]))
    return str(g.op("And", padding, seen))


def _norm(g: _Graph, s: Shape, x: str, name: str, width: int | None = None) -> str:
    scale = g.weight(f"{name}.weight", width or s.hidden, scale=0.1, around=1.0)
    if s.norm == "rms":
        return str(g.op("RMSNormalization", x, scale, axis=-1, epsilon=1e-6, stash_type=1))
    return str(
        g.op(
            "LayerNormalization",
            x,
            scale,
            g.weight(f"{name}.bias", s.hidden, scale=0.1),
            axis=-1,
            epsilon=1e-5,
        )
    )


def _linear(g: _Graph, s: Shape, x: str, name: str, inner: int, outer: int) -> str:
    y = g.op("MatMul", x, g.weight(f"{name}.weight", inner, outer))
    return str(g.op("Add", y, g.weight(f"{name}.bias", outer, scale=0.1)) if s.bias else y)


def _projections(g: _Graph, s: Shape, layer: int, x: str) -> list[str]:
    sizes = [s.heads * s.head, s.kv_heads * s.head, s.kv_heads * s.head]
    base = f"layers.{layer}.attn"
    if s.projection == "separate":
        return [
            _linear(g, s, x, f"{base}.{n}_proj", s.hidden, size) for n, size in zip("qkv", sizes, strict=True)
        ]
    packed = _linear(g, s, x, f"{base}.qkv", s.hidden, sum(sizes))
    if s.projection == "split":
        return list(g.op("Split", packed, g.const(sizes), axis=-1, outs=3))
    ends = np.cumsum(sizes)
    return [
        g.op("Slice", packed, g.const([end - size]), g.const([end]), g.const([2]))
        for end, size in zip(ends, sizes, strict=True)
    ]


def _heads(g: _Graph, s: Shape, layer: int, x: str, count: int, name: str) -> str:
    x = g.op("Reshape", x, g.const([0, 0, count, s.head]))
    normed = s.qk_norm if name != "v" else None
    if normed == "before":
        x = _head_norm(g, s, layer, x, name)
    x = g.op("Transpose", x, perm=_ORDER)
    if normed == "after":
        x = _head_norm(g, s, layer, x, name)
    if s.rotary is None or name == "v":
        return x
    angle = np.arange(s.positions)[:, None] * 100.0 ** (-np.arange(s.rotary // 2) / (s.rotary // 2))
    cos, sin = g.table("cos", np.cos(angle)), g.table("sin", np.sin(angle))
    partial: dict[str, Any] = {} if s.rotary == s.head else {"rotary_embedding_dim": s.rotary}
    return str(
        g.op("RotaryEmbedding", x, cos, sin, "position_ids", interleaved=int(s.interleaved), **partial)
    )


def _head_norm(g: _Graph, s: Shape, layer: int, x: str, name: str) -> str:
    scale = g.weight(f"layers.{layer}.attn.{name}_norm.weight", s.head, scale=0.1, around=1.0)
    return str(g.op("RMSNormalization", x, scale, axis=-1, epsilon=1e-6, stash_type=1))


def _layer(g: _Graph, s: Shape, layer: int, x: str, mask: str) -> str:
    h = _norm(g, s, x, f"layers.{layer}.input_norm")
    counts = (s.heads, s.kv_heads, s.kv_heads)
    q, k, v = (
        _heads(g, s, layer, p, count, name)
        for p, count, name in zip(_projections(g, s, layer, h), counts, "qkv", strict=True)
    )
    attributes: dict[str, Any] = {"softcap": s.softcap} if s.softcap else {}
    if s.scale is not None:
        attributes["scale"] = s.scale
    y, key, value = g.op(
        "Attention",
        q,
        k,
        v,
        mask,
        f"past_key_values.{layer}.key",
        f"past_key_values.{layer}.value",
        outs=3,
        **attributes,
    )
    _rename(g, key, f"present.{layer}.key")
    _rename(g, value, f"present.{layer}.value")
    y = g.op("Reshape", g.op("Transpose", y, perm=_ORDER), g.const([0, 0, -1]))
    y = _linear(g, s, y, f"layers.{layer}.attn.o_proj", s.heads * s.head, s.hidden)
    if s.sandwich:
        y = _norm(g, s, y, f"layers.{layer}.after_attn")
    x = g.op("Add", x, y)
    h = _norm(g, s, x, f"layers.{layer}.mlp_norm")
    y = _mlp(g, s, layer, h)
    if s.sandwich:
        y = _norm(g, s, y, f"layers.{layer}.after_mlp")
    return str(g.op("Add", x, y))


def _rename(g: _Graph, old: str, new: str) -> None:
    outputs = g.nodes[-1].output
    outputs[list(outputs).index(old)] = new


def _mlp(g: _Graph, s: Shape, layer: int, h: str) -> str:
    base = f"layers.{layer}.mlp"
    if s.act == "gelu":
        y = g.op("Gelu", _linear(g, s, h, f"{base}.up", s.hidden, s.ffn), approximate="tanh")
    else:
        gate = _linear(g, s, h, f"{base}.gate", s.hidden, s.ffn)
        silu = g.op("Mul", gate, g.op("Sigmoid", gate))
        y = g.op("Mul", silu, _linear(g, s, h, f"{base}.up", s.hidden, s.ffn))
    return _linear(g, s, y, f"{base}.down", s.ffn, s.hidden)


@dataclass(frozen=True)
class Call:
    """One kind of call: rows, new tokens, cached tokens, and where the padding is."""

    name: str
    batch: int
    sequence: int
    past: int
    padding: Padding = "none"


CALLS = (
    Call("prefill", 1, 6, 0),
    Call("prefill-3", 3, 6, 0),
    Call("prefill-left", 3, 7, 0, "left"),
    Call("prefill-right", 3, 7, 0, "right"),
    Call("chunk", 1, 4, 5),
    Call("chunk-3", 3, 4, 5),
    Call("chunk-left", 3, 4, 7, "left"),
    Call("chunk-right", 3, 4, 7, "right"),
    Call("decode", 1, 1, 5),
    Call("decode-left", 3, 1, 7, "left"),
    Call("decode-right", 3, 1, 7, "right"),
    Call("one-token", 3, 1, 0),
)


@dataclass(frozen=True)
class Domain(InputDomain):
    """Legal calls of a `canonical_decoder`."""

    shape: Shape = field(default_factory=Shape)

    def cases(self, rng: np.random.Generator) -> Iterator[Case]:
        for call in CALLS:
            if self.shape.padding or call.padding == "none":
                yield self.case(call, rng)

    def case(self, call: Call, rng: np.random.Generator) -> Case:
        """`call` with random tokens and a random cache; right padding may leave a hole in the cached part."""
        s, total = self.shape, call.past + call.sequence
        mask = np.ones((call.batch, total), np.int64)
        for row in range(call.batch):
            if call.padding == "left":
                mask[row, : min(2 * row, total - 1)] = 0
            elif call.padding == "right":
                mask[row, call.past - min(row, max(call.past - 1, 0)) : call.past] = 0
                mask[row, total - min(row, call.sequence - 1) :] = 0
        feeds: dict[str, Array] = {
            "input_ids": rng.integers(0, s.vocab, (call.batch, call.sequence)),
            "attention_mask": mask,
            "position_ids": np.maximum(np.cumsum(mask, 1) - 1, 0)[:, call.past :],
        }
        if not s.padding:
            del feeds["attention_mask"]
        rows, slots = mask[:, call.past :].astype(bool)[:, :, None], mask.astype(bool)[:, None, :, None]
        compare = {"logits": rows}
        for layer in range(s.layers):
            for kind in ("key", "value"):
                dims = (call.batch, s.kv_heads, call.past, s.head)
                feeds[f"past_key_values.{layer}.{kind}"] = rng.standard_normal(dims).astype(np.float32)
                compare[f"present.{layer}.{kind}"] = slots
        holes = not mask[:, : call.past].all()
        return Case(call.name, feeds, compare, call.padding, padded_past=holes)
