"""A profile for tests, of a machine that there is not."""

from __future__ import annotations

import datetime
from typing import Any

from graphopt.machine import AttentionRate, Interval, MemorySample, ProductRate, Profile, Tier

__all__ = ["NOON", "interval", "profile"]

NOON = datetime.datetime(2026, 11, 30, 12, tzinfo=datetime.UTC)


def interval(value: float, share: float = 0.1) -> Interval:
    return Interval(value=value, low=value * (1 - share), high=value * (1 + share))


def profile(**changes: Any) -> Profile:
    """Memory gives 10 GB/s; a product of 4 bits takes as long as reading does, from a cache half as long."""
    rate: dict[str, Any] = {"bits": 4, "block": 32, "zeros": False, "k": 1024, "n": 1024, "rows": 1}
    size = 1024 * 1024 // 2 + 1024 * 32 * 4
    whole = ProductRate(**rate, threads=1, streamed=True, seconds=interval(size / 10e9))
    cached = ProductRate(**rate, threads=1, streamed=False, seconds=interval(size / 20e9))
    attention = AttentionRate(
        heads=8, kv_heads=2, head_size=64, cache_bits=32, past=1000, rows=1, batch=1, threads=1,
        seconds=interval(2e-4),
    )  # fmt: skip
    given: dict[str, Any] = {
        "name": "cpu",
        "kind": "measured",
        "target": "cpu",
        "identity": {"processor": "imagined"},
        "date": NOON.date(),
        "memory_bytes": 1 << 34,
        "tiers": (
            Tier(name="L2", bytes=1 << 20, read={1: interval(100e9)}),
            Tier(name="DRAM", bytes=1 << 34, read={1: interval(10e9)}),
        ),
        "peaks": {"fp32": {1: interval(1e11)}},
        "products": (whole, cached),
        "attention": (attention,),
        "memory": (MemorySample(at=NOON, threads=1, read=10e9),),
    }
    return Profile(**given | changes)
