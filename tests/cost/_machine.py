"""A machine of simple numbers: products take bytes over bandwidth or operations over peak."""

from __future__ import annotations

import datetime
from collections.abc import Iterable

from graphopt.cost import GraphWork, Heads, NodeWork, Product, Result, Use, Weight
from graphopt.machine import AttentionRate, Interval, OperatorRate, ProductRate, Profile, Tier

MEMORY, CACHE, PEAK = 20e9, 80e9, 400e9
SIZES = ((256, 256), (1024, 1024), (1024, 4096), (4096, 1024), (4096, 4096))


def near(value: float, percent: float = 2.0) -> Interval:
    """`value`, from so many percent less to as many more."""
    return Interval(value=value, low=value * (1 - percent / 100), high=value * (1 + percent / 100))


def seconds(bits: int, block: int, k: int, n: int, rows: int, *, streamed: bool, threads: int = 1) -> float:
    """What a product takes on that machine."""
    size = k * n * (bits + (32 / block if block else 0)) / 8
    return 2e-6 + max(size / (MEMORY if streamed else CACHE), 2.0 * rows * k * n / PEAK / threads)


def products(bits: int = 4, block: int = 128, percent: float = 2.0) -> Iterable[ProductRate]:
    for threads in (1, 2):
        for k, n in SIZES:
            for rows, streamed in [(1, True), (2, True), (8, True), *((r, False) for r in (1, 8, 64, 512))]:
                took = seconds(bits, block, k, n, rows, streamed=streamed, threads=threads)
                yield ProductRate(
                    bits=bits,
                    block=block,
                    zeros=False,
                    k=k,
                    n=n,
                    rows=rows,
                    threads=threads,
                    streamed=streamed,
                    seconds=near(took, percent),
                )


def attended(heads: int, head_size: int, past: int, rows: int, batch: int) -> float:
    return 3e-6 + 4.0 * batch * rows * heads * head_size * (past + rows / 2) / 50e9


def attention() -> Iterable[AttentionRate]:
    for threads in (1, 2):
        for past, rows in ((16, 1), (256, 1), (2048, 1), (0, 64), (0, 512)):
            yield AttentionRate(
                heads=16,
                kv_heads=4,
                head_size=64,
                cache_bits=32,
                past=past,
                rows=rows,
                batch=1,
                threads=threads,
                seconds=near(attended(16, 64, past, rows, 1)),
            )


def profile(**changes: object) -> Profile:
    """Measured, but for `changes`."""
    fields: dict[str, object] = {
        "name": "simple",
        "kind": "measured",
        "target": "cpu",
        "date": datetime.date(2026, 1, 1),
        "memory_bytes": 8 << 30,
        "tiers": (
            Tier(name="L3", bytes=16 << 20, read={1: near(CACHE), 2: near(CACHE)}),
            Tier(name="DRAM", bytes=8 << 30, read={1: near(MEMORY, 20), 2: near(MEMORY, 20)}),
        ),
        "peaks": {"int8": {1: near(PEAK), 2: near(2 * PEAK)}, "fp32": {1: near(1e11), 2: near(2e11)}},
        "dispatch": {1: near(2e-6), 2: near(2e-6)},
        "products": tuple(products()),
        "attention": tuple(attention()),
        "operators": tuple(
            OperatorRate(operator="Norm", threads=t, call=near(2e-6), element=near(1e-9)) for t in (1, 2)
        ),
        "noise": near(1.0, 3),
        "loop": {1: near(1e-5), 2: near(1e-5)},
        "session": near(0.01),
        "opening": near(1e-10),
    }
    return Profile.model_validate(fields | changes)


def other(name: str, operator: str, width: int) -> NodeWork:
    return NodeWork(name, operator, "other", (Result(name, ("batch", "rows", width), 32),))


def product(name: str, k: int, n: int, bits: int = 4, block: int = 128, *, last: bool = False) -> NodeWork:
    size = round(k * n * (bits + (32 / block if block else 0)) / 8)
    rows = ("batch", 1) if last else ("batch", "rows")
    about = Product(name, k, n, bits, block, zeros=False, bytes=size, rows=rows)
    result = Result(name, (*rows, n), 32)
    return NodeWork(name, "MatMulNBits", "product", (result,), (), (Use(name, size),), about)


def graph(*nodes: NodeWork, vocabulary: int = 1) -> GraphWork:
    weights = tuple(Weight(use.name, (), 8, use.bytes) for node in nodes for use in node.weights)
    return GraphWork(nodes, vocabulary, weights)


def model(layers: int = 8, width: int = 1024) -> GraphWork:
    """A decoder whose weights exceed the cache."""
    nodes: list[NodeWork] = []
    for i in range(layers):
        heads = Heads(16, 4, 64, 32)
        nodes += [
            other(f"norm{i}", "Norm", width),
            product(f"qkv{i}", width, 3 * width // 2),
            NodeWork(f"attention{i}", "Attention", "attention", attention=heads),
            product(f"up{i}", width, 4 * width),
            product(f"down{i}", 4 * width, width),
        ]
    return graph(*nodes, product("head", width, 8 * width, last=True), vocabulary=8 * width)
