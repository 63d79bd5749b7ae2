"""What a graph has to do: bytes and operations of its nodes, as functions of batch, rows and past."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Call", "GraphWork", "Heads", "NodeWork", "Product"]


@dataclass(frozen=True)
class Call:
    """One call of a graph: `rows` new tokens of each of `batch` texts, `past` tokens after they began."""

    batch: int = 1
    rows: int = 1
    past: int = 0


@dataclass(frozen=True)
class Product:
    """Rows times a weight [k, n]. `bits` and `block` are its form: 16 and 32 bits are floats, in no blocks.

    `last_only`: only the last row of each text meets it, as of a head that makes the next token's logits.
    `name` is that of the weight, and `bytes` what it takes as it is stored, scales and zero points included.
    """

    name: str
    k: int
    n: int
    bits: int
    block: int
    zeros: bool
    bytes: int
    last_only: bool = False


@dataclass(frozen=True)
class Heads:
    """Attention over a cache: keys and values of `kv_heads` heads of `head_size` in `cache_bits` each.

    `window` is how many tokens back a token looks at most, 0 where it looks at all.
    """

    heads: int
    kv_heads: int
    head_size: int
    cache_bits: int
    window: int = 0


@dataclass(frozen=True)
class NodeWork:
    """One node. `elements` are what its result has for each new token; products and attention say more."""

    name: str
    operator: str
    kind: Literal["product", "attention", "lookup", "other"]
    elements: int = 0
    product: Product | None = None
    attention: Heads | None = None


@dataclass(frozen=True)
class GraphWork:
    """All nodes, in order, and bytes that lie beside weights: the .onnx file, tokenizer, other files."""

    nodes: tuple[NodeWork, ...]
    vocabulary: int
    other_bytes: int = 0
    unknown: tuple[str, ...] = ()
    """Nodes whose cost nothing is known of."""
