"""What a graph has to do: bytes and operations of its nodes, as functions of batch, rows and past."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Literal

from graphopt.cost._dims import Dim, Shape, size_of

__all__ = ["FLOAT", "Call", "GraphWork", "Heads", "NodeWork", "Product", "Result", "Use", "Weight"]

FLOAT = 16
"""Bits from which a weight, or a cache, is of floats: in fewer it is of integers."""


@dataclass(frozen=True)
class Call:
    """One call of a graph: `rows` new tokens of each of `batch` texts, `past` tokens after they began."""

    batch: int = 1
    rows: int = 1
    past: int = 0


@dataclass(frozen=True)
class Weight:
    """What is stored once, however many nodes read it. `bits` are those of an element of its type."""

    name: str
    shape: tuple[int, ...]
    bits: int
    bytes: int


@dataclass(frozen=True)
class Result:
    """What a node makes, or a graph is given: `shape` over batch, rows and past, of elements of `bits`."""

    name: str
    shape: Shape
    bits: int

    def elements(self, call: Call) -> int:
        return prod(size_of(dim, call.batch, call.rows, call.past) for dim in self.shape)

    def bytes(self, call: Call) -> int:
        return -(-self.elements(call) * self.bits // 8)


def _met(experts: int, chosen: int, rows: int) -> float:
    return experts * (1 - (1 - min(chosen, experts) / experts) ** rows)


@dataclass(frozen=True)
class Product:
    """Rows times a weight [k, n]. `bits` and `block` are its form: 16 and 32 bits are floats, in no blocks.

    `name` is that of the weight, "" where both operands are computed, and `bytes` what it takes as it is
    stored, scales and zero points included. `rows` are sizes whose product says how many rows meet it. Of
    `experts` matrices, which `bytes` is of all of, each row meets `chosen`.
    """

    name: str
    k: int
    n: int
    bits: int
    block: int
    zeros: bool
    bytes: int
    rows: Shape = ("batch", "rows")
    experts: int = 1
    chosen: int = 1

    @property
    def last_only(self) -> bool:
        """Whether only the last row of each text meets it, as of a head that scores the next token."""
        return not any(isinstance(dim, str) and "rows" in dim for dim in self.rows)

    def row_count(self, call: Call) -> int:
        """How many rows meet it."""
        return prod(size_of(dim, call.batch, call.rows, call.past) for dim in self.rows)

    def met(self, call: Call) -> float:
        """How many of its experts some row meets, in the mean of rows that choose evenly."""
        return _met(self.experts, self.chosen, self.row_count(call))

    def flops(self, call: Call) -> int:
        """A multiplication and an addition are two."""
        return 2 * self.row_count(call) * self.chosen * self.k * self.n


@dataclass(frozen=True)
class Heads:
    """Attention of `queries` tokens to `keys`, `kv_heads` heads of `head_size`, of `cache_bits` in a cache.

    `window` is how many tokens back a token looks at most, 0 where it looks at all; values have
    `value_size`. `cached` is false where keys and values come with the call. Of `causal` ones the last query
    sees all keys, and each before it one less.
    """

    heads: int
    kv_heads: int
    head_size: int
    cache_bits: int
    window: int = 0
    value_size: int = 0
    batch: Dim = "batch"
    queries: Dim = "rows"
    keys: Dim = "past + rows"
    causal: bool = True
    cached: bool = True

    def __post_init__(self) -> None:
        if not self.value_size:
            object.__setattr__(self, "value_size", self.head_size)

    def pairs(self, call: Call) -> int:
        """Of a query and a key that it sees, of one text and head."""
        queries, keys = (size_of(dim, call.batch, call.rows, call.past) for dim in (self.queries, self.keys))
        if not self.causal:
            return queries * (min(keys, self.window) if self.window else keys)
        first = max(keys - queries + 1, 0)
        if not self.window or keys <= self.window:
            return (first + keys) * queries // 2
        return sum(min(seen, self.window) for seen in range(first, keys + 1))

    def flops(self, call: Call) -> int:
        """Of queries with keys, and of what comes of them with values."""
        batch = size_of(self.batch, call.batch, call.rows, call.past)
        return 2 * batch * self.heads * (self.head_size + self.value_size) * self.pairs(call)

    def read(self, call: Call) -> int:
        """Bytes of the cache that are read: keys and values of tokens that came before this call."""
        if not self.cached:
            return 0
        batch = size_of(self.batch, call.batch, call.rows, call.past)
        seen = min(call.past, self.window) if self.window else call.past
        return batch * self.kv_heads * seen * (self.head_size + self.value_size) * self.cache_bits // 8


@dataclass(frozen=True)
class Use:
    """What a node reads of the weight called `name`, which takes `bytes`.

    That is all; of a table rows of `row_bytes`, so many as the product of `rows`; of `experts` those that as
    many rows meet, each of which chooses `chosen` evenly.
    """

    name: str
    bytes: int
    rows: Shape = ()
    row_bytes: float = 0
    experts: int = 1
    chosen: int = 1

    def read(self, call: Call) -> float:
        count = prod(size_of(dim, call.batch, call.rows, call.past) for dim in self.rows)
        if self.row_bytes:
            return min(self.bytes, self.row_bytes * count)
        return (
            self.bytes * _met(self.experts, self.chosen, count) / self.experts
            if self.experts > 1
            else self.bytes
        )


@dataclass(frozen=True)
class NodeWork:
    """One node: its `results` in order, `operands` by name that are computed, `weights` that are stored.

    Products and attention say more.
    """

    name: str
    operator: str
    kind: Literal["product", "attention", "lookup", "other"]
    results: tuple[Result, ...] = ()
    operands: tuple[str, ...] = ()
    weights: tuple[Use, ...] = ()
    product: Product | None = None
    attention: Heads | None = None

    @property
    def has_experts(self) -> bool:
        return self.product is not None and self.product.experts > 1

    def elements(self, call: Call) -> int:
        """Of its first result."""
        return self.results[0].elements(call) if self.results else 0

    def flops(self, call: Call) -> int:
        """Of its products; what it does to single elements is none."""
        parts = (self.product, self.attention)
        return sum(part.flops(call) for part in parts if part is not None)

    def read(self, call: Call) -> float:
        """Bytes of weights that it reads, and of a cache."""
        cache = 0 if self.attention is None else self.attention.read(call)
        return cache + sum(use.read(call) for use in self.weights)

    def made(self, call: Call) -> int:
        """Bytes of its results."""
        return sum(result.bytes(call) for result in self.results)


@dataclass(frozen=True)
class GraphWork:
    """All nodes, in order, and bytes of files beside them: `other_bytes` of what is there beforehand (the
    tokenizer), and `told_bytes` of what is written about them (the .onnx file, report), an estimate.

    `caches` are what a call hands to the next one, by the input that takes it; `outputs` the names of what is
    made for the caller. `unknown` names nodes whose cost nothing is known of.
    """

    nodes: tuple[NodeWork, ...]
    vocabulary: int
    weights: tuple[Weight, ...] = ()
    inputs: tuple[Result, ...] = ()
    caches: tuple[Result, ...] = ()
    outputs: tuple[str, ...] = ()
    other_bytes: int = 0
    told_bytes: int = 0
    unknown: tuple[str, ...] = ()

    @property
    def has_experts(self) -> bool:
        """Whether what a call reads depends on its tokens."""
        return any(node.has_experts for node in self.nodes)

    @property
    def weight_bytes(self) -> int:
        """Of all weights, each once."""
        return sum(weight.bytes for weight in self.weights)

    def flops(self, call: Call) -> int:
        """Operations of all products of a call (a multiplication and an addition are two)."""
        return sum(node.flops(call) for node in self.nodes)

    def read(self, call: Call) -> float:
        """Bytes of weights that a call reads, each once: of tables rows that are taken. Caches are none."""
        found: dict[str, float] = {}
        whole = {weight.name: weight.bytes for weight in self.weights}
        for node in self.nodes:
            for use in node.weights:
                found[use.name] = min(whole[use.name], found.get(use.name, 0) + use.read(call))
        return sum(found.values())

    def cache_bytes(self, batch: int, tokens: int) -> int:
        """Of the keys, values and states of so many texts that are `tokens` long."""
        return sum(cache.bytes(Call(batch, 0, tokens)) for cache in self.caches)
