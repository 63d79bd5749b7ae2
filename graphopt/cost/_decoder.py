"""The work of Llama-like decoders, as graphopt lowers them, from the sizes in config.json alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, Literal

from graphopt.cost._dims import Shape
from graphopt.cost._package import DOCUMENT, LAYER
from graphopt.cost._work import GraphWork, Heads, NodeWork, Product, Result, Use, Weight
from graphopt.errors import BadInput
from graphopt.ir.operators import FUSED_SILU, FUSED_SUM_NORM, GROUPED_ATTENTION

__all__ = ["DecoderShape", "decoder_work"]

_TOKENS: Shape = ("batch", "rows")
_MODEL_TYPES = ("llama", "mistral", "qwen2")
_SETTINGS = 960
"""Bytes of genai_config.json: ids of tokens decide of the last few."""


@dataclass(frozen=True)
class DecoderShape:
    """Sizes of a decoder: `layers` of grouped attention and a gated feed-forward of width `ffn`.

    `window` is how many tokens back each layer looks, 0 where all. `biases` are of queries, keys and values,
    of what attention gives, and of the feed-forward.
    """

    vocabulary: int
    hidden: int
    ffn: int
    layers: int
    heads: int
    kv_heads: int
    head_size: int
    positions: int
    tied: bool
    window: tuple[int, ...] = ()
    rotated: int = 0
    qkv_bias: bool = False
    out_bias: bool = False
    ffn_bias: bool = False

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> DecoderShape:
        """Of a config.json as transformers writes it.

        Raises `BadInput` for a model type that is not known to be such a decoder, and for a size that is
        missing: export the model then, and ask `work_of` its graph.
        """
        kind = str(config.get("model_type"))
        if kind not in _MODEL_TYPES:
            raise BadInput(
                f"the sizes of a model of type {kind!r} are not read from its configuration",
                hint=f"Of {', '.join(_MODEL_TYPES)} they are. Of others the exported graph tells.",
            )

        def size(*names: str, default: int | None = None) -> int:
            found = next((config[name] for name in names if config.get(name) is not None), default)
            if not isinstance(found, int) or isinstance(found, bool) or found < 1:
                raise BadInput(f"{names[0]} in the configuration is {found!r}, and no size")
            return found

        hidden, heads, layers = size("hidden_size"), size("num_attention_heads"), size("num_hidden_layers")
        head = size("head_dim", default=hidden // heads)
        kv_heads = size("num_key_value_heads", default=heads)
        if heads % kv_heads:
            raise BadInput(f"{heads} heads of queries do not share {kv_heads} of keys evenly")
        rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
        share = float(config.get("partial_rotary_factor") or rope.get("partial_rotary_factor") or 1.0)
        attention = bool(config.get("attention_bias", False))
        return cls(
            vocabulary=size("vocab_size"),
            hidden=hidden,
            ffn=size("intermediate_size"),
            layers=layers,
            heads=heads,
            kv_heads=kv_heads,
            head_size=head,
            positions=size("max_position_embeddings"),
            tied=bool(config.get("tie_word_embeddings", False)),
            window=_windows(config, kind, layers),
            rotated=int(head * share),
            qkv_bias=attention or kind == "qwen2",
            out_bias=attention and kind == "llama",
            ffn_bias=bool(config.get("mlp_bias", False)),
        )


def _windows(config: Mapping[str, Any], kind: str, layers: int) -> tuple[int, ...]:
    window = config.get("sliding_window") or 0
    if kind == "qwen2" and not config.get("use_sliding_window", False):
        window = 0
    kinds = config.get("layer_types") or ["sliding_attention"] * layers
    return tuple(window if kind == "sliding_attention" else 0 for kind in kinds)


def decoder_work(shape: DecoderShape | Mapping[str, Any]) -> GraphWork:
    """What graphopt's package of a decoder of this `shape`, or config.json, has to do, weights in float32.

    Node by node it is what `work_of` reads from such a package (`with_forms` makes it one in fewer bits).
    What is written about it is an estimate: how long names are the sizes do not tell. Files of a source that
    are taken over are not among it.
    """
    return _Decoder(shape if isinstance(shape, DecoderShape) else DecoderShape.of(shape)).work()


@dataclass
class _Decoder:
    shape: DecoderShape
    nodes: list[NodeWork] = field(default_factory=list)
    stored: dict[str, Weight] = field(default_factory=dict)
    caches: list[Result] = field(default_factory=list)

    def work(self) -> GraphWork:
        shape = self.shape
        table = "lm_head.weight" if shape.tied else "model.embed_tokens.weight"
        for layer in range(shape.layers):
            self._norms(layer)
        self._weight("model.norm.weight", shape.hidden)
        self._weight(table, shape.vocabulary, shape.hidden)
        stream = self._lookup(table)
        x = self._op(
            "RMSNormalization", "norm", [stream], shape.hidden, "model.layers.0.input_layernorm.weight"
        )
        for layer in range(shape.layers):
            stream, x = self._layer(layer, stream, x)
        self._head(x)
        states = [cache.name.replace(".past.", ".present.") for cache in self.caches]
        return GraphWork(
            nodes=tuple(self.nodes),
            vocabulary=shape.vocabulary,
            weights=tuple(self._in_order()),
            inputs=(
                Result("input_ids", _TOKENS, 64),
                Result("attention_mask", ("batch", "past + rows"), 64),
                Result("position_ids", _TOKENS, 64),
            ),
            caches=tuple(self.caches),
            outputs=("logits", *states),
            told_bytes=_SETTINGS + DOCUMENT + LAYER * shape.layers,
        )

    def _in_order(self) -> Sequence[Weight]:
        """As they are written: what the checkpoint has, what is turned, angles, what is packed."""

        def place(weight: Weight) -> int:
            if "~" in weight.name:
                return 1
            return 2 if weight.name.startswith("rotary") else 3 if "qkv_proj" in weight.name else 0

        return sorted(self.stored.values(), key=place)

    def _norms(self, layer: int) -> None:
        hidden = self.shape.hidden
        names = ["input_layernorm", "post_attention_layernorm"]
        for name in names:
            self._weight(f"model.layers.{layer}.{name}.weight", hidden)

    def _layer(self, layer: int, stream: str, x: str) -> tuple[str, str]:
        shape, name = self.shape, f"model.layers.{layer}"
        queries, keys = shape.heads * shape.head_size, shape.kv_heads * shape.head_size
        y = self._product(x, f"{name}.self_attn.qkv_proj.weight", shape.hidden, queries + 2 * keys)
        if shape.qkv_bias:
            y = self._bias(y, f"{name}.self_attn.qkv_proj.bias", queries + 2 * keys)
        if layer == 0:
            self._mask()
        y = self._attention(layer, y)
        y = self._product(y, f"{name}.self_attn.o_proj.weight~transpose", queries, shape.hidden)
        if shape.out_bias:
            y = self._bias(y, f"{name}.self_attn.o_proj.bias", shape.hidden)
        stream, x = self._sum_norm(stream, y, f"{name}.post_attention_layernorm.weight")
        gate = self._product(x, f"{name}.mlp.gate_proj.weight~transpose", shape.hidden, shape.ffn)
        if shape.ffn_bias:
            gate = self._bias(gate, f"{name}.mlp.gate_proj.bias", shape.ffn)
        gate = self._op(FUSED_SILU, f"{name}.silu", [gate], shape.ffn)
        up = self._product(x, f"{name}.mlp.up_proj.weight~transpose", shape.hidden, shape.ffn)
        if shape.ffn_bias:
            up = self._bias(up, f"{name}.mlp.up_proj.bias", shape.ffn)
        y = self._op("Mul", f"{name}.gated", [gate, up], shape.ffn)
        y = self._product(y, f"{name}.mlp.down_proj.weight~transpose", shape.ffn, shape.hidden)
        if shape.ffn_bias:
            y = self._bias(y, f"{name}.mlp.down_proj.bias", shape.hidden)
        last = layer == shape.layers - 1
        norm = "model.norm.weight" if last else f"model.layers.{layer + 1}.input_layernorm.weight"
        return self._sum_norm(stream, y, norm, last=last)

    def _attention(self, layer: int, qkv: str) -> str:
        shape, name = self.shape, f"layers.{layer}"
        half = (shape.rotated or shape.head_size) // 2
        tables = [self._weight(f"rotary/{of}", shape.positions, half) for of in ("cos", "sin")]
        sizes = ("batch", shape.kv_heads, "past", shape.head_size)
        self.caches += [Result(f"{name}.past.{of}", sizes, 32) for of in ("key", "value")]
        present = ("batch", shape.kv_heads, "past + rows", shape.head_size)
        width = shape.heads * shape.head_size
        self.nodes.append(
            NodeWork(
                name=f"{name}.attention",
                operator=GROUPED_ATTENTION,
                kind="attention",
                results=(
                    Result(f"{name}.attended", (*_TOKENS, width), 32),
                    *(Result(f"{name}.present.{of}", present, 32) for of in ("key", "value")),
                ),
                operands=(
                    qkv,
                    f"{name}.past.key",
                    f"{name}.past.value",
                    "seqlens_k",
                    "length",
                    "position_ids",
                    "bias",
                ),
                weights=tuple(Use(t.name, t.bytes, _TOKENS, 4 * half) for t in tables),
                attention=Heads(
                    shape.heads,
                    shape.kv_heads,
                    shape.head_size,
                    32,
                    (shape.window or (0,) * shape.layers)[layer],
                ),
            )
        )
        return f"{name}.attended"

    def _mask(self) -> None:
        """What is made of the mask once, for attention of all layers."""
        self._constants(one=(32, 1), seen=(32,), masked=(32,), bias_axes=(64, 2), bias_one=(64, 1))
        mask: Shape = ("batch", "past + rows")
        made = (
            ("Shape", "batch_size", ["input_ids"], (1,), 64),
            ("Shape", "sequence", ["input_ids"], (1,), 64),
            ("Shape", "total", ["attention_mask"], (1,), 64),
            ("Cast", "total_int32", ["total"], (1,), 32),
            ("Cast", "sequence_int32", ["sequence"], (1,), 32),
            ("Sub", "last", ["total_int32"], (1,), 32),
            ("Expand", "seqlens_k", ["last", "batch_size"], ("batch",), 32),
            ("Squeeze", "length", ["total_int32"], (), 32),
            ("Expand", "query_seqlens", ["sequence_int32", "batch_size"], ("batch",), 32),
            ("Cast", "is_token", ["attention_mask"], mask, 8),
            ("Where", "bias_row", ["is_token"], mask, 32),
            ("Unsqueeze", "bias_rows", ["bias_row"], ("batch", 1, 1, "past + rows"), 32),
            ("Concat", "bias_shape", ["sequence"], (4,), 64),
            ("Expand", "bias", ["bias_rows", "bias_shape"], ("batch", 1, "rows", "past + rows"), 32),
        )
        for operator, name, operands, sizes, bits in made:
            self._node(operator, name, operands, sizes, bits)

    def _head(self, x: str) -> None:
        """Scores of the last token of each text, wherever padding puts it."""
        self._constants(to_keep=(64, 1), end=(64, 1), first=(64, 1), zero=(64,), step=(64,), axis=(64, 1))
        shape, each = self.shape, ("batch", 1)
        made: tuple[tuple[str, str, list[str], Shape], ...] = (
            ("Shape", "new", [x], (1,)),
            ("Neg", "first_new", ["new"], (1,)),
            ("Slice", "new_mask", ["attention_mask", "first_new"], _TOKENS),
            ("ArgMax", "last_token", ["new_mask"], each),
            ("Sub", "back", [], (1,)),
            ("Add", "start", ["last_token", "back"], each),
            ("Max", "first_kept", ["start"], each),
            ("Squeeze", "count", [], ()),
            ("Range", "steps", ["count"], (1,)),
            ("Add", "places", ["first_kept", "steps"], each),
            ("Unsqueeze", "indices", ["places"], ("batch", 1, 1)),
        )
        for operator, name, operands, sizes in made:
            self._node(operator, name, operands, sizes, 64)
        self._node("GatherND", "last_hidden", [x, "indices"], ("batch", 1, shape.hidden), 32)
        weight = self._weight("lm_head.weight", shape.vocabulary, shape.hidden)
        self._multiplied("last_hidden", weight, "logits", shape.hidden, shape.vocabulary, each)

    def _lookup(self, table: str) -> str:
        weight = self.stored[table]
        result = Result("embedding", (*_TOKENS, self.shape.hidden), 32)
        use = Use(table, weight.bytes, _TOKENS, 4 * self.shape.hidden)
        self.nodes.append(NodeWork("embedding", "Gather", "lookup", (result,), ("input_ids",), (use,)))
        return "embedding"

    def _product(self, x: str, name: str, k: int, n: int) -> str:
        return self._multiplied(x, self._weight(name, k, n), f"{name}/product", k, n, _TOKENS)

    def _multiplied(self, x: str, weight: Weight, made: str, k: int, n: int, rows: Shape) -> str:
        product = Product(weight.name, k, n, 32, 0, zeros=False, bytes=weight.bytes, rows=rows)
        result, use = Result(made, (*rows, n), 32), Use(weight.name, weight.bytes)
        self.nodes.append(NodeWork(made, "MatMul", "product", (result,), (x,), (use,), product))
        return made

    def _bias(self, x: str, name: str, width: int) -> str:
        self._weight(name, width)
        return self._op("Add", f"{name}/added", [x], width, name)

    def _sum_norm(self, stream: str, y: str, weight: str, *, last: bool = False) -> tuple[str, str]:
        """The sum of both, and its norm."""
        sizes, name = (*_TOKENS, self.shape.hidden), f"{weight}/norm"
        made = (Result(name, sizes, 32), *(() if last else (Result(f"{name}/sum", sizes, 32),)))
        self.nodes.append(
            NodeWork(
                name, FUSED_SUM_NORM, "other", made, (stream, y), (Use(weight, self.stored[weight].bytes),)
            )
        )
        return f"{name}/sum", name

    def _op(self, operator: str, name: str, operands: Sequence[str], width: int, weight: str = "") -> str:
        return self._node(operator, name, operands, (*_TOKENS, width), 32, weight)

    def _node(
        self, operator: str, name: str, operands: Sequence[str], sizes: Shape, bits: int, weight: str = ""
    ) -> str:
        kind: Literal["other"] = "other"
        uses = (Use(weight, self.stored[weight].bytes),) if weight else ()
        self.nodes.append(NodeWork(name, operator, kind, (Result(name, sizes, bits),), tuple(operands), uses))
        return name

    def _constants(self, **each: tuple[int, ...]) -> None:
        """Small ones: the bits of an element, and sizes."""
        for name, (bits, *sizes) in each.items():
            self.stored[name] = Weight(name, tuple(sizes), bits, bits // 8 * prod(sizes))

    def _weight(self, name: str, *sizes: int) -> Weight:
        return self.stored.setdefault(name, Weight(name, sizes, 32, 4 * prod(sizes)))
