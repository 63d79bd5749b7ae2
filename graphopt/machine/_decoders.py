"""Graphs of causal language models whose steps are timed."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np

from graphopt.ir.operators import CACHED_ATTENTION, FUSED_SUM_NORM, QUICK_GELU
from graphopt.machine._graphs import Graph, Product, Weights, value_info

__all__ = ["VOCABULARY", "Sizes", "attention", "whole"]

VOCABULARY = 64
"""Tokens that these language models read."""


class Attentions:
    """Attentions of a causal language model in `graph`, whose inputs but the tokens it adds: each keeps the
    keys and values of a layer. Rotation tables and scales are shared."""

    def __init__(
        self, graph: Graph, tokens: str, heads: int, kv_heads: int, size: int, cache_bits: int, length: int
    ) -> None:
        self.graph, self.kv_heads, self.bits, self.layers = graph, kv_heads, cache_bits, 0
        self.kind = {32: np.float32, 8: np.int8, 4: np.uint8}[cache_bits]
        self.held = size // 2 if cache_bits == 4 else size
        mask = graph.input("attention_mask", np.int64, ["batch", "total"])
        lengths = graph.node("ReduceSum", [mask, graph.constant("one", [1])], ["lengths"], keepdims=0)
        last = graph.node("Sub", [lengths, "one"], ["last"])
        seqlens = graph.node("Cast", [last], ["seqlens"], to=6)
        total = graph.node("Shape", [mask], ["shape"], start=1)
        total = graph.node("Squeeze", [graph.node("Cast", [total], ["totals"], to=6)], ["total"])
        seen = graph.node("Cast", [mask], ["seen"], to=1)
        graph.node("Unsqueeze", [seen, graph.constant("axes", [1, 2])], ["row"])
        sizes = [graph.constant("1", [1]), "1", graph.node("Shape", [tokens], ["sequence"], start=1), "1"]
        bias = graph.node("Expand", ["row", graph.node("Concat", sizes, ["sizes"], axis=0)], ["bias"])
        self.says: dict[str, Any] = {"num_heads": heads, "kv_num_heads": kv_heads, "do_rotary": 1}
        tables = [graph.weight(name, np.float32, (length, size // 2)) for name in ("cos", "sin")]
        scales = ["", ""]
        if cache_bits != 32:
            self.says |= {"k_quant_type": "PER_CHANNEL", "v_quant_type": "PER_CHANNEL"}
            self.says |= {"kv_cache_bit_width": cache_bits}
            reach = np.full(kv_heads * size, 0.03, np.float32)
            scales = [graph.constant("k_scale", reach), graph.constant("v_scale", reach)]
        self.shared = [seqlens, total, *tables, "", bias, "", *scales]

    def add(self, qkv: str) -> str:
        """That of the next layer."""
        i, graph = self.layers, self.graph
        self.layers += 1
        shape: list[int | str] = ["batch", self.kv_heads, "past", self.held]
        past = [graph.input(f"past.{i}.{s}", self.kind, shape) for s in ("key", "value")]
        shape = ["batch", self.kv_heads, "total", self.held]
        present = [graph.output(f"present.{i}.{s}", self.kind, shape) for s in ("key", "value")]
        outputs = [f"attention{i}", *present]
        return graph.node(CACHED_ATTENTION, [qkv, "", "", *past, *self.shared], outputs, **self.says)


def attention(
    weights: Weights, heads: int, kv_heads: int, size: int, cache_bits: int, layers: int, length: int
) -> Graph:
    """A causal language model that is nothing but attention: each token has rows of a table as its queries,
    keys and values in every layer, and what they come to added up as logits."""
    graph = Graph(weights)
    width = (heads + 2 * kv_heads) * size
    tokens = graph.input("input_ids", np.int64, ["batch", "sequence"])
    table = graph.weight("table", np.float32, (VOCABULARY, width))
    qkv = graph.node("Gather", [table, tokens], ["qkv"])
    attentions = Attentions(graph, tokens, heads, kv_heads, size, cache_bits, length)
    results = [attentions.add(qkv) for _ in range(layers)]
    graph.outputs.insert(0, value_info("logits", np.float32, ["batch", "sequence", heads * size]))
    graph.node("Sum", results, ["logits"])
    return graph


@dataclass(frozen=True)
class Sizes:
    """Those of a decoder: `width` of what it adds up, `inner` between gates, all weights in one form."""

    layers: int
    width: int
    inner: int
    heads: int
    kv_heads: int
    head_size: int
    vocabulary: int
    bits: int = 4
    block: int = 128

    @property
    def bytes(self) -> int:
        """What a step reads of weights."""
        whole, each = self.heads * self.head_size, self.kv_heads * self.head_size
        of_a_layer = (
            (self.width, whole + 2 * each),
            (whole, self.width),
            *[(self.width, self.inner)] * 2,
            (self.inner, self.width),
        )
        many = self.layers * sum(self.product(k, n).bytes for k, n in of_a_layer)
        return many + self.product(self.width, self.vocabulary).bytes

    def product(self, k: int, n: int) -> Product:
        """One of these weights."""
        return Product(self.bits, self.block, False, k, n)


def whole(weights: Weights, one: Sizes, length: int) -> Graph:
    """A causal language model as graphopt makes it of Llama's, a cache of floats."""
    graph = Graph(weights)
    tokens = graph.input("input_ids", np.int64, ["batch", "sequence"])
    table = graph.weight("table", np.float32, (VOCABULARY, one.width))
    x = graph.node("Gather", [table, tokens], ["rows"])
    attentions = Attentions(graph, tokens, one.heads, one.kv_heads, one.head_size, 32, length)
    numbers = count()

    def product(x: str, k: int, n: int) -> str:
        return one.product(k, n).add(graph, x, next(numbers))

    def norm(x: str, stream: str) -> tuple[str, str]:
        number = next(numbers)
        gain = graph.weight(f"gain{number}", np.float32, (one.width,))
        outputs = [f"norm{number}", "", "", f"stream{number}"]
        graph.node(FUSED_SUM_NORM, [x, stream, gain], outputs, epsilon=1e-5)
        return outputs[0], outputs[3]

    stream, attended = x, one.heads * one.head_size
    for _ in range(one.layers):
        y, stream = norm(x, stream)
        qkv = product(y, one.width, attended + 2 * one.kv_heads * one.head_size)
        y, stream = norm(product(attentions.add(qkv), attended, one.width), stream)
        gate, up = (product(y, one.width, one.inner) for _ in range(2))
        silu = graph.node(QUICK_GELU, [gate], [f"{gate}.silu"], alpha=1.0)
        x = product(graph.node("Mul", [silu, up], [f"{gate}.gated"]), one.inner, one.width)
    y, _ = norm(x, stream)
    product(y, one.width, one.vocabulary)
    graph.nodes[-1].output[0] = "logits"
    graph.outputs.insert(0, value_info("logits", np.float32, ["batch", "sequence", one.vocabulary]))
    return graph
