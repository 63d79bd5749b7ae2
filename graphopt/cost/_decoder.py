"""The work of Llama-like decoders, as graphopt lowers them, from the sizes in config.json alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from graphopt.cost._decoder_shape import DecoderShape, Experts
from graphopt.cost._dims import Shape
from graphopt.cost._experts import SIZES, expert_weights, through_experts
from graphopt.cost._package import DOCUMENT
from graphopt.cost._work import GraphWork, Heads, NodeWork, Result, Use, Weight
from graphopt.cost._writing import Row, Writing
from graphopt.ir.operators import FUSED_SUM_NORM, GROUPED_ATTENTION

__all__ = ["DecoderShape", "decoder_work"]

_TOKENS: Shape = ("batch", "rows")
_MASK: Shape = ("batch", "past + rows")
_EACH: Shape = ("batch", 1)
_TURNED = "~transpose"
_SETTINGS = 960
"""Bytes of genai_config.json: ids of tokens decide of the last few."""

_LENGTHS: Sequence[Row] = (
    ("Shape", "batch_size", ["input_ids"], (1,), 64),
    ("Shape", "sequence", ["input_ids"], (1,), 64),
    ("Shape", "total", ["attention_mask"], (1,), 64),
    ("Cast", "total_int32", ["total"], (1,), 32),
    ("Cast", "sequence_int32", ["sequence"], (1,), 32),
    ("Sub", "last", ["total_int32"], (1,), 32),
    ("Expand", "seqlens_k", ["last", "batch_size"], ("batch",), 32),
    ("Squeeze", "length", ["total_int32"], (), 32),
    ("Expand", "query_seqlens", ["sequence_int32", "batch_size"], ("batch",), 32),
    ("Cast", "is_token", ["attention_mask"], _MASK, 8),
    ("Where", "bias_row", ["is_token"], _MASK, 32),
    ("Unsqueeze", "bias_rows", ["bias_row"], ("batch", 1, 1, "past + rows"), 32),
    ("Concat", "bias_shape", ["sequence"], (4,), 64),
    ("Expand", "bias", ["bias_rows", "bias_shape"], ("batch", 1, "rows", "past + rows"), 32),
)
"""What is made of the mask once, for attention of all layers."""
_LAST: Sequence[Row] = (
    ("Shape", "new", ["model.norm.weight/norm"], (1,), 64),
    ("Neg", "first_new", ["new"], (1,), 64),
    ("Slice", "new_mask", ["attention_mask", "first_new"], _TOKENS, 64),
    ("ArgMax", "last_token", ["new_mask"], _EACH, 64),
    ("Sub", "back", [], (1,), 64),
    ("Add", "start", ["last_token", "back"], _EACH, 64),
    ("Max", "first_kept", ["start"], _EACH, 64),
    ("Squeeze", "count", [], (), 64),
    ("Range", "steps", ["count"], (1,), 64),
    ("Add", "places", ["first_kept", "steps"], _EACH, 64),
    ("Unsqueeze", "indices", ["places"], ("batch", 1, 1), 64),
)
"""Where the last token of each text is, wherever padding puts it."""


def decoder_work(shape: DecoderShape | Mapping[str, Any]) -> GraphWork:
    """What graphopt's package of a decoder of this `shape`, or config.json, has to do, weights in float32.

    Node by node it is what `work_of` reads from such a package (`with_forms` makes it one in fewer bits).
    What is written about it is an estimate: how long names are the sizes do not tell. Files of a source that
    are taken over are not among it.
    """
    return _Decoder(shape if isinstance(shape, DecoderShape) else DecoderShape.of(shape)).work()


class _Decoder:
    """Weights are called as checkpoints and passes call them: "~" stands before what a pass did to one."""

    def __init__(self, shape: DecoderShape) -> None:
        self.shape, self.traits = shape, shape.traits
        self.write = Writing()
        self._offset = "~offset" if self.traits.offset else ""

    def work(self) -> GraphWork:
        shape, write = self.shape, self.write
        self._checkpoint()
        if shape.experts is not None:
            write.rows(SIZES)
        table = write.stored["lm_head.weight" if shape.tied else "model.embed_tokens.weight"]
        stream = write.lookup(table, "embedding", "input_ids", _TOKENS)
        if self.traits.scaled:
            write.constants(embed_scale=(32,))
            stream = self._op("Mul", "scaled", [stream], shape.hidden)
        x = self._norm(stream, "model.layers.0.input_layernorm.weight")
        for layer in range(shape.layers):
            stream, x = self._layer(layer, stream, x)
        self._head(x)
        states = [cache.name.replace(".past.", ".present.") for cache in write.caches]
        return GraphWork(
            nodes=tuple(write.nodes),
            vocabulary=shape.vocabulary,
            weights=tuple(sorted(write.stored.values(), key=_place)),
            inputs=(
                Result("input_ids", _TOKENS, 64),
                Result("attention_mask", _MASK, 64),
                Result("position_ids", _TOKENS, 64),
            ),
            caches=tuple(write.caches),
            outputs=("logits", *states),
            told_bytes=_SETTINGS + DOCUMENT + self.traits.written * shape.layers,
        )

    def _checkpoint(self) -> None:
        """What is written as it came, in its order."""
        shape, write = self.shape, self.write
        if not shape.tied:
            write.weight("model.embed_tokens.weight", shape.vocabulary, shape.hidden)
        for layer in range(shape.layers):
            name = f"model.layers.{layer}"
            if self.traits.head_norms and not self._offset:
                for of in "qk":
                    write.weight(f"{name}.self_attn.{of}_norm.weight", shape.head_size)
            if (experts := self._experts_of(layer)) is not None:
                expert_weights(write, f"{name}.mlp", shape.hidden, experts)
            if not self._offset:
                for norm in ("input_layernorm", "post_attention_layernorm"):
                    write.weight(f"{name}.{norm}.weight", shape.hidden)
        if not self._offset:
            write.weight("model.norm.weight", shape.hidden)
        if shape.tied:
            write.weight("lm_head.weight", shape.vocabulary, shape.hidden)

    def _experts_of(self, layer: int) -> Experts | None:
        experts = self.shape.experts
        return experts if experts is not None and experts.layers[layer] else None

    def _layer(self, layer: int, stream: str, x: str) -> tuple[str, str]:
        shape, name = self.shape, f"model.layers.{layer}"
        own = self.traits.own_norms
        y = self._attention(layer, x)
        y = self._product(y, f"{name}.self_attn.o_proj", shape.heads * shape.head_size, shape.hidden)
        if shape.out_bias:
            y = self._bias(y, f"{name}.self_attn.o_proj.bias", shape.hidden)
        if own:
            y = self._norm(y, f"{name}.post_attention_layernorm.weight")
        between = "pre_feedforward_layernorm" if own else "post_attention_layernorm"
        stream, x = self._sum_norm(stream, y, f"{name}.{between}.weight")
        experts = self._experts_of(layer)
        if experts is None:
            y = self._gated(f"{name}.mlp", x)
        else:
            y = through_experts(self.write, f"{name}.mlp", x, shape.hidden, experts)
        if own:
            y = self._norm(y, f"{name}.post_feedforward_layernorm.weight")
        if layer == shape.layers - 1:
            return self._sum_norm(stream, y, "model.norm.weight", last=True)
        return self._sum_norm(stream, y, f"model.layers.{layer + 1}.input_layernorm.weight")

    def _gated(self, name: str, x: str) -> str:
        shape, width = self.shape, self.shape.ffn
        if self.traits.fused:
            both = self._product(x, f"{name}.gate_up_proj", shape.hidden, 2 * width)
            if shape.chosen_angles:
                self.write.constants(halves=(64, 2))
            gate, up = f"{name}.gate", f"{name}.up"
            self.write.parts("Split", [gate, up], both, [(*_TOKENS, width)] * 2)
            gate = self._op(shape.activation, f"{name}.activated", [gate], width)
        else:
            gate = self._biased(x, f"{name}.gate_proj", shape.hidden, width)
            gate = self._op(shape.activation, f"{name}.activated", [gate], width)
            up = self._biased(x, f"{name}.up_proj", shape.hidden, width)
        y = self._op("Mul", f"{name}.gated", [gate, up], width)
        return self._biased(y, f"{name}.down_proj", width, shape.hidden)

    def _attention(self, layer: int, x: str) -> str:
        shape, name = self.shape, f"model.layers.{layer}.self_attn"
        queries, keys = shape.heads * shape.head_size, shape.kv_heads * shape.head_size
        width = queries + 2 * keys
        if self.traits.fused:
            y = self._product(x, f"{name}.qkv_proj", shape.hidden, width)
        else:
            weight = self.write.weight(f"{name}.qkv_proj.weight", shape.hidden, width)
            y = self.write.product(x, weight, f"{name}.qkv", (shape.hidden, width), _TOKENS)
        if shape.qkv_bias:
            y = self._bias(y, f"{name}.qkv_proj.bias", width)
        if self.traits.head_norms:
            widths = (queries, keys, keys)
            return self._grouped(layer, self._normed_heads(name, y, widths, first=layer == 0))
        if layer == 0:
            self._mask()
        return self._grouped(layer, [y])

    def _normed_heads(self, name: str, qkv: str, widths: Sequence[int], *, first: bool) -> list[str]:
        """Queries and keys with a norm for each head; where it is `offset`, behind what the mask becomes."""
        shape, write = self.shape, self.write
        write.constants(q_shape=(64, 4), k_shape=(64, 4))
        write.constants(**{f"{name}.{of}": (64, 3) for of in ("widths", "q_width", "k_width")})
        q, k, v = (f"{name}.{of}" for of in "qkv")
        write.parts("Split", [q, k, v], qkv, [(*_TOKENS, width) for width in widths])

        def apart(x: str, width: int) -> None:
            heads = (*_TOKENS, width // shape.head_size, shape.head_size)
            write.node("Reshape", f"{x}_heads", [x], heads)

        def normed(x: str, width: int) -> None:
            weight = write.weight(f"{x}_norm.weight{self._offset}", shape.head_size)
            heads = (*_TOKENS, width // shape.head_size, shape.head_size)
            write.node("RMSNormalization", f"{x}_normed", [f"{x}_heads"], heads, weight=weight.name)

        def rows(x: str, width: int) -> None:
            write.node("Reshape", f"{x}_rows", [f"{x}_normed"], (*_TOKENS, width))

        before, behind = ([apart], [normed, rows]) if self._offset else ([apart, normed], [rows])
        for steps in (before, behind):
            for x, width in zip((q, k), widths, strict=False):
                for step in steps:
                    step(x, width)
            if first and steps is before:
                self._mask()
        return [f"{q}_rows", f"{k}_rows", v]

    def _grouped(self, layer: int, parts: Sequence[str]) -> str:
        shape, name, write = self.shape, f"layers.{layer}", self.write
        half = (shape.rotated or shape.head_size) // 2
        kind = shape.angles[layer] if shape.angles else ""
        tables = [write.weight(f"rotary{kind}/{of}", shape.positions, half) for of in ("cos", "sin")]
        past, present = (
            ("batch", shape.kv_heads, length, shape.head_size) for length in ("past", "past + rows")
        )
        write.caches += [Result(f"{name}.past.{of}", past, 32) for of in ("key", "value")]
        window = shape.window[layer] if shape.window else 0
        attended = Result(f"{name}.attended", (*_TOKENS, shape.heads * shape.head_size), 32)
        given = (f"{name}.past.key", f"{name}.past.value", "seqlens_k", "length", "position_ids", "bias")
        write.nodes.append(
            NodeWork(
                name=f"{name}.attention",
                operator=GROUPED_ATTENTION,
                kind="attention",
                results=(attended, *(Result(f"{name}.present.{of}", present, 32) for of in ("key", "value"))),
                operands=(*parts, *given),
                weights=tuple(Use(t.name, t.bytes, _TOKENS, 4 * half) for t in tables),
                attention=Heads(shape.heads, shape.kv_heads, shape.head_size, 32, window),
            )
        )
        return attended.name

    def _mask(self) -> None:
        self.write.constants(one=(32, 1), seen=(32,), masked=(32,), bias_axes=(64, 2), bias_one=(64, 1))
        self.write.rows(_LENGTHS)

    def _head(self, x: str) -> None:
        """Scores of the last token of each text."""
        shape, write = self.shape, self.write
        write.constants(to_keep=(64, 1), end=(64, 1), first=(64, 1), zero=(64,), step=(64,), axis=(64, 1))
        write.rows(_LAST)
        x = write.node("GatherND", "last_hidden", [x, "indices"], ("batch", 1, shape.hidden))
        sizes = (shape.hidden, shape.vocabulary)
        if shape.tied:
            weight = write.stored["lm_head.weight"]
        else:
            weight = write.weight(f"lm_head.weight{_TURNED}", *sizes)
        y = write.product(x, weight, "scores" if shape.capped else "logits", sizes, _EACH)
        if shape.capped:
            write.constants(cap=(32,))
            for operator, made in (("Div", "shrunk"), ("Tanh", "bounded"), ("Mul", "logits")):
                y = write.node(operator, made, [y], (*_EACH, shape.vocabulary))

    def _product(self, x: str, name: str, k: int, n: int) -> str:
        weight = self.write.weight(f"{name}.weight{_TURNED}", k, n)
        return self.write.product(x, weight, f"{name}/product", (k, n), _TOKENS)

    def _biased(self, x: str, name: str, k: int, n: int) -> str:
        y = self._product(x, name, k, n)
        return self._bias(y, f"{name}.bias", n) if self.shape.ffn_bias else y

    def _bias(self, x: str, name: str, width: int) -> str:
        self.write.weight(name, width)
        return self._op("Add", f"{name}/added", [x], width, name)

    def _norm(self, x: str, name: str) -> str:
        weight = self.write.weight(name + self._offset, self.shape.hidden)
        return self._op("RMSNormalization", f"{name}/norm", [x], self.shape.hidden, weight.name)

    def _sum_norm(self, stream: str, y: str, name: str, *, last: bool = False) -> tuple[str, str]:
        """The sum of both, and its norm."""
        weight = self.write.weight(name + self._offset, self.shape.hidden)
        sizes, norm = (*_TOKENS, self.shape.hidden), f"{name}/norm"
        made = (Result(norm, sizes, 32), *(() if last else (Result(f"{norm}/sum", sizes, 32),)))
        uses = (Use(weight.name, weight.bytes),)
        self.write.nodes.append(NodeWork(norm, FUSED_SUM_NORM, "other", made, (stream, y), uses))
        return f"{norm}/sum", norm

    def _op(self, operator: str, name: str, operands: Sequence[str], width: int, weight: str = "") -> str:
        return self.write.node(operator, name, operands, (*_TOKENS, width), 32, weight)


def _place(weight: Weight) -> int:
    """Weights are written as they came, then experts, what is turned, angles, and what is packed."""
    name = weight.name
    if "~" in name:
        return 2
    if name.endswith("/experts"):
        return 1
    return 3 if name.startswith("rotary") else 4 if "qkv_proj" in name else 0
