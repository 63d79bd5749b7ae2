"""Machines whose times follow from one bandwidth, so that tests know what to expect."""

from __future__ import annotations

import datetime

from graphopt.machine import Interval, Profile, Tier

__all__ = ["machine"]


def machine(
    name: str = "box", gb_s: float = 40.0, memory: float = 24e9, price: float | None = 1.0
) -> Profile:
    """A cited one of two thread counts: two read twice as fast as one."""
    return Profile(
        name=name,
        kind="cited",
        target="cpu",
        date=datetime.date(2026, 11, 30),
        memory_bytes=int(memory),
        tiers=(Tier(name="DRAM", bytes=int(memory), read={1: _span(gb_s * 5e8), 2: _span(gb_s * 1e9)}),),
        peaks={kind: {1: _span(2e11), 2: _span(4e11)} for kind in ("fp32", "fp16", "int8")},
        price_per_hour=None if price is None else _span(price, 0),
    )


def _span(value: float, share: float = 0.1) -> Interval:
    return Interval(value=value, low=value * (1 - share), high=value * (1 + share))
