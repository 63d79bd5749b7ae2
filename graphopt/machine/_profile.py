"""What a machine can do, measured or cited, as data."""

from __future__ import annotations

import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["AttentionRate", "Interval", "OperatorRate", "ProductRate", "Profile", "Source", "Tier"]


class _Data(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Interval(_Data):
    """A value, and the bounds that nine of ten measurements of it lie between: a prediction interval."""

    value: float
    low: float
    high: float


class Source(_Data):
    """Where a cited number is from: title, who published it, when."""

    title: str
    publisher: str
    date: datetime.date


class Tier(_Data):
    """A level of the memory hierarchy: its `bytes`, and bytes a second that are read from it, by threads.

    `name` is "L1", "L2", "L3", "DRAM", "HBM"... Of memory that a device does not share with its host the
    thread count is 0.
    """

    name: str
    bytes: int
    read: dict[int, Interval]


class ProductRate(_Data):
    """Seconds that float32[rows, k] times a weight [k, n] takes on so many `threads`.

    `bits` 2, 4 or 8 are MatMulNBits in blocks of `block` (`zeros`: with zero points), 16 and 32 are MatMul of
    that float (`block` 0). `streamed`: the weight comes from memory, as in decoding, and not from a cache.
    """

    bits: int
    block: int
    zeros: bool
    k: int
    n: int
    rows: int
    threads: int
    streamed: bool
    seconds: Interval


class AttentionRate(_Data):
    """Seconds of one attention over a cache, `rows` new tokens of each of `batch` texts after `past`."""

    heads: int
    kv_heads: int
    head_size: int
    cache_bits: int
    past: int
    rows: int
    batch: int
    threads: int
    seconds: Interval


class OperatorRate(_Data):
    """Seconds of an operator that is neither product nor attention: of a call, and of each element of its
    result."""

    operator: str
    threads: int
    call: Interval
    element: Interval


class Profile(_Data):
    """What a machine can do.

    `kind` says whether it was measured or is cited from data sheets. `identity` is what makes two machines
    one (a subset of the target's fingerprint: processor, instructions, cores, runtime, kernels). `peaks` are
    operations a second (a multiplication and an addition are two) by type and threads, `dispatch` seconds a
    node by threads, `noise` how many times as long the same call takes a moment later (an A/A test), `links`
    bytes a second by name, `seconds` how long measuring took.

    `loop` are seconds that a step of `graphopt.runtime.Decoder` takes beyond its nodes, by threads; `session`
    those of opening a session of a graph of no size, and `opening` those for each byte of weights that it
    opens; `process_bytes` what a process has resident that holds nothing but the runtime.
    """

    version: Literal[1] = 1
    name: str
    kind: Literal["measured", "cited"]
    target: str
    identity: dict[str, str] = Field(default_factory=dict)
    date: datetime.date
    seconds: float = 0.0
    memory_bytes: int
    tiers: tuple[Tier, ...]
    peaks: dict[str, dict[int, Interval]]
    dispatch: dict[int, Interval] = Field(default_factory=dict)
    products: tuple[ProductRate, ...] = ()
    attention: tuple[AttentionRate, ...] = ()
    operators: tuple[OperatorRate, ...] = ()
    noise: Interval | None = None
    loop: dict[int, Interval] = Field(default_factory=dict)
    session: Interval | None = None
    opening: Interval | None = None
    process_bytes: Interval | None = None
    links: dict[str, Interval] = Field(default_factory=dict)
    price_per_hour: Interval | None = None
    watts: Interval | None = None
    sources: dict[str, Source] = Field(default_factory=dict)
