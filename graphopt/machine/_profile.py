"""What a machine can do, measured or cited, as data."""

from __future__ import annotations

import datetime
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = [
    "AttentionRate",
    "Interval",
    "MemorySample",
    "OperatorRate",
    "ProductRate",
    "Profile",
    "SetRate",
    "Source",
    "Tier",
]


Number = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, le=1 << 53)]


class _Data(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Interval(_Data):
    """A value, and the bounds that nine of ten measurements of it lie between: a prediction interval."""

    value: Number
    low: Number
    high: Number

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not self.low <= self.value <= self.high:
            raise ValueError(f"{self.value} does not lie between {self.low} and {self.high}")
        return self


class Source(_Data):
    """Where a cited number is from: title, who published it, when ("2026-05-18", "2026-05"; "" where that is
    not said), and at what address.

    `says` is what it says, where that is not the number itself; and what was judged, where nothing was found.
    """

    title: str
    publisher: str
    date: Annotated[str, Field(pattern=r"^(\d{4}(-\d\d){0,2})?$")] = ""
    address: str = ""
    says: str = ""


class Tier(_Data):
    """A level of the memory hierarchy: its `bytes`, and bytes a second that are read from it, by threads.

    `name` is "L1", "L2", "L3", "DRAM", "HBM"... Of memory that a device does not share with its host the
    thread count is 0.
    """

    name: str
    bytes: Count
    read: dict[Count, Interval]


class MemorySample(_Data):
    """Bytes a second that were read from memory at a moment."""

    at: datetime.datetime
    threads: Count
    read: Number


class ProductRate(_Data):
    """Seconds that float32[rows, k] times a weight [k, n] takes on so many `threads`.

    `bits` 2, 4 or 8 are MatMulNBits in blocks of `block` (`zeros`: with zero points), 16 and 32 are MatMul of
    that float (`block` 0). `streamed`: the weight comes from memory, as in decoding, and not from a cache.
    What memory gave meanwhile is taken into account: seconds are those at the tier's own bandwidth.
    """

    bits: Count
    block: Count
    zeros: bool
    k: Count
    n: Count
    rows: Count
    threads: Count
    streamed: bool
    seconds: Interval


class SetRate(_Data):
    """Bytes a second that products of `rows` rows read of weights of float32, so many `bytes` of them again
    and again. onnxruntime keeps them in pages as the system hands them out, and a processor knows by heart
    where a few thousand of these lie."""

    rows: Count
    bytes: Count
    threads: Count
    read: Interval


class AttentionRate(_Data):
    """Seconds of one attention over a cache, `rows` new tokens of each of `batch` texts after `past`.

    `streamed`: the cache comes from memory, at the tier's own bandwidth, and not from the processor's caches.
    """

    heads: Count
    kv_heads: Count
    head_size: Count
    cache_bits: Count
    past: Count
    rows: Count
    batch: Count
    threads: Count
    streamed: bool = True
    seconds: Interval


class OperatorRate(_Data):
    """Seconds of an operator that is neither product nor attention: of a call, and of each element of its
    result."""

    operator: str
    threads: Count
    call: Interval
    element: Interval


class DecoderRate(_Data):
    """Seconds of a step of a decoder like Llama, one token after `past`.

    `width` is that of what layers add up, `inner` that between gates; all weights are of `bits` in blocks of
    `block`, the cache is float32. What a step takes beyond the sum of its nodes, each measured among its
    like, is what they cost one another.
    """

    layers: Count
    width: Count
    inner: Count
    heads: Count
    kv_heads: Count
    head_size: Count
    vocabulary: Count
    bits: Count
    block: Count
    past: Count
    threads: Count
    seconds: Interval


class Profile(_Data):
    """What a machine can do. The last of `tiers` is what holds models: memory, or that of the device.

    `kind` says whether it was measured or is cited from data sheets. `identity` is what makes two machines
    one (a subset of the target's fingerprint: processor, instructions, cores, runtime, kernels). `peaks` are
    operations a second (a multiplication and an addition are two) by type and threads, `dispatch` seconds a
    node by threads, `noise` how many times as long the same call takes a moment later (an A/A test), `links`
    bytes a second by name ("numa": of memory of another node than that whose cores read it), `seconds` how
    long measuring took. `working_sets` are bytes a second, by threads and by how many bytes are read again
    and again: what of a cache is really there, where others share it; `float_sets` the same of floats that
    products read. `pulse` are the seconds of a call of `Pulse`, by threads, when what few rows meet in a
    cache takes as long as it says.

    `loop` are seconds that a step of `graphopt.runtime.Decoder` takes beyond its nodes, by threads; `session`
    those of opening a session of a graph of no size, and `opening` those for each byte of weights that it
    opens; `process_bytes` what a process has resident that holds nothing but the runtime. `memory` are the
    samples behind the interval of the last tier, which `with_memory` adds to.

    Of a cited machine the upper end of an interval is what the data sheet says, `value` what published
    measurements reach of it, the lower end what kernels that are not at their best do. `sources` has for each
    number its path ("tiers.HBM", "peaks.fp16", "watts"), and for each end of an interval that another source
    says, that path and the end ("tiers.HBM.value").
    """

    version: Literal[1] = 1
    name: str
    title: str = ""
    kind: Literal["measured", "cited"]
    target: str
    identity: dict[str, str] = Field(default_factory=dict)
    date: datetime.date
    seconds: Number = 0.0
    memory_bytes: Count
    tiers: Annotated[tuple[Tier, ...], Field(min_length=1)]
    peaks: dict[str, dict[Count, Interval]]
    working_sets: dict[Count, dict[Count, Interval]] = Field(default_factory=dict)
    float_sets: tuple[SetRate, ...] = ()
    pulse: dict[Count, Interval] = Field(default_factory=dict)
    dispatch: dict[Count, Interval] = Field(default_factory=dict)
    products: tuple[ProductRate, ...] = ()
    attention: tuple[AttentionRate, ...] = ()
    operators: tuple[OperatorRate, ...] = ()
    decoders: tuple[DecoderRate, ...] = ()
    noise: Interval | None = None
    loop: dict[Count, Interval] = Field(default_factory=dict)
    session: Interval | None = None
    opening: Interval | None = None
    process_bytes: Interval | None = None
    memory: tuple[MemorySample, ...] = ()
    links: dict[str, Interval] = Field(default_factory=dict)
    price_per_hour: Interval | None = None
    watts: Interval | None = None
    sources: dict[str, Source] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _can_be_predicted_from(self) -> Self:
        if not self.tiers[-1].read:
            raise ValueError(f"nothing says how fast {self.tiers[-1].name}, which holds models, is read")
        rates = [rate for tier in self.tiers for rate in tier.read.values()]
        rates += [rate for kind in self.peaks.values() for rate in kind.values()]
        if any(not rate.low for rate in rates):
            raise ValueError("a rate of memory or of products is 0")
        return self
