"""What a profile measured of products and attention, between the sizes that it measured."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from graphopt.cost._dims import size_of
from graphopt.cost._surface import Surface
from graphopt.cost._work import FLOAT, Call, Heads
from graphopt.machine import Interval, Profile

__all__ = ["FEW", "Read", "Sizes", "Tables", "by_threads", "sd_of", "spread"]

_NINE_TENTHS = 1.6449
"""Standard deviations either way within which nine tenths of a normal distribution lie."""
_PRODUCT_REACH = (12.0, 12.0, 12.0, 6.0, 4.0, 4.0, 0.1)
"""The last is of columns that end within a block: little of what they take is known from others."""
_ATTENTION_REACH = (12.0, 12.0, 8.0, 8.0, 8.0)
_PEAKS = ("int8", "fp32", "bf16", "fp16")
_MICROSECOND = 1e-6
_LINE = 64
FEW = 8
"""Rows up to which a product that reads memory is another thing than one that reads a cache."""


def sd_of(interval: Interval) -> float:
    """The standard deviation of the logarithm that an interval stands for."""
    if interval.low <= 0 or interval.high <= interval.low:
        return 0.0
    return math.log(interval.high / interval.low) / 2 / _NINE_TENTHS


def spread(value: float, sd: float) -> Interval:
    """The interval about `value` that holds nine tenths, where logarithms vary by `sd`."""
    factor = math.exp(_NINE_TENTHS * sd)
    return Interval(value=value, low=value / factor, high=value * factor)


def by_threads(table: dict[int, Interval], threads: int) -> Interval:
    """That of the nearest number of threads."""
    return table[min(table, key=lambda count: abs(count - threads))]


@dataclass(frozen=True)
class Read:
    """Seconds from a table, the standard deviation of their logarithm, and whether sizes lie beyond it."""

    seconds: float
    sd: float
    beyond: bool


class Tables:
    """Tables of a profile for so many threads, a surface over the logarithms of sizes for each.

    What a surface holds is how many times as long it took as bytes over bandwidth and operations over peak
    say, together: nearly the same everywhere, where seconds span six orders of magnitude.
    """

    def __init__(self, profile: Profile, threads: int) -> None:
        self._profile, self._threads = profile, threads
        memory = by_threads(profile.tiers[-1].read, threads)
        self.memory, self.memory_sd = memory.value, sd_of(memory)
        caches = [tier for tier in profile.tiers[:-1] if tier.read]
        self.cache = by_threads(caches[-1].read, threads).value if caches else 4 * self.memory
        self.dispatch = by_threads(profile.dispatch, threads).value if profile.dispatch else 0.0
        self._surfaces: dict[object, Surface | None] = {}

    @classmethod
    def of(cls, profile: Profile, threads: int) -> Tables:
        """Those of this profile, made once."""
        key = (id(profile), threads)
        if key not in _MADE:
            _MADE[key] = cls(profile, threads)
            weakref.finalize(profile, _MADE.pop, key, None)
        return _MADE[key]

    def product(self, sizes: Sizes, *, streamed: bool) -> Read | None:
        """float32[rows, k] times [k, n]; None where none of so many bits was measured."""
        key = ("product", sizes.bits, streamed)
        surface = self._surface(key, lambda: self._products(sizes.bits, streamed=streamed))
        return None if surface is None else _read(surface, sizes.point, self._unit(sizes, streamed=streamed))

    def attention(self, heads: Heads, call: Call, *, streamed: bool) -> Read | None:
        """Over a cache of any kind where none of such a cache was measured."""
        bits = heads.cache_bits if self.measured_cache(heads.cache_bits) else None
        key = ("attention", bits, streamed)
        surface = self._surface(key, lambda: self._attentions(bits, streamed=streamed))
        if surface is None:
            return None
        return _read(surface, _attention_point(heads, call), self._attended(heads, call, streamed=streamed))

    def from_memory(self, reread: float, *, floats: int = 0) -> float:
        """How much of what is read again and again, so many bytes, is not in a cache any more: by how fast
        working sets were read; where that was not measured all from one and a half times the cache on,
        nothing up to three quarters of it. Of weights of floats that so many rows meet: by how fast such
        products read them.
        """
        sets = self._profile.working_sets.get(self._threads)
        memory = self.memory
        if floats and (found := self._float_sets(floats)):
            sets, memory = found, found[max(found)].value
        if sets:
            rates = [sets[size].value for size in sorted(sets)]
            slowness = np.maximum.accumulate([1 / rate for rate in rates])
            here = float(
                np.interp(math.log(max(reread, 1)), [math.log(size) for size in sorted(sets)], slowness)
            )
            if reread > max(sets):
                return 1.0
            span = 1 / memory - slowness[0]
            return min(max((here - slowness[0]) / span, 0.0), 1.0) if span > 0 else 1.0
        cache = max((tier.bytes for tier in self._profile.tiers[:-1]), default=0)
        return min(max((reread / cache - 0.75) / 0.75, 0.0), 1.0) if cache else 1.0

    def _float_sets(self, rows: int) -> dict[int, Interval]:
        """Those of the rows that were measured that are nearest."""
        found = [one for one in self._profile.float_sets if one.threads == self._threads]
        near = min((one.rows for one in found), key=lambda one: abs(math.log(one / rows)), default=0)
        return {one.bytes: one.read for one in found if one.rows == near}

    def measured_cache(self, bits: int) -> bool:
        """Whether attention over such a cache was measured."""
        return any(r.cache_bits == bits and r.threads == self._threads for r in self._profile.attention)

    def peak(self, kind: str) -> float:
        """Operations a second."""
        return self._peak(kind).value

    def peak_sd(self, kind: str) -> float:
        """The standard deviation of its logarithm."""
        return sd_of(self._peak(kind))

    def _peak(self, kind: str) -> Interval:
        peaks = self._profile.peaks
        named = peaks.get(kind) or next((peaks[k] for k in _PEAKS if k in peaks), None)
        return by_threads(named or next(iter(peaks.values())), self._threads)

    def roofline(self, size: float, flops: float, kind: str, speed: float) -> float:
        """Reading at `speed` and computing, one after the other, and starting."""
        return size / speed + flops / self.peak(kind) + max(self.dispatch, _MICROSECOND)

    def _products(self, bits: int, *, streamed: bool) -> Surface | None:
        """Of those from memory, or from a cache; of many rows that were measured one way only, that one."""
        found = [
            (Sizes(bits, r.k, r.n, r.rows, r.block, r.zeros), r.streamed, r.seconds)
            for r in self._profile.products
            if r.bits == bits and r.threads == self._threads
        ]
        have = {sizes for sizes, way, _ in found if way == streamed}
        ours = [
            (sizes, seconds)
            for sizes, way, seconds in found
            if way == streamed or (sizes.rows > FEW and sizes not in have)
        ]
        return _surface(
            [sizes.point for sizes, _ in ours],
            [seconds for _, seconds in ours],
            [self._unit(sizes, streamed=streamed) for sizes, _ in ours],
            _PRODUCT_REACH,
        )

    def _unit(self, sizes: Sizes, *, streamed: bool) -> float:
        bits = sizes.bits
        each = bits + (32 + sizes.zeros * bits) / sizes.block if sizes.block else bits
        kind = "fp32" if bits >= FLOAT else "int8"
        weights = sizes.walked * sizes.n
        speed = self.memory if streamed else self.cache
        return self.roofline(weights * each / 8, 2.0 * sizes.rows * weights, kind, speed)

    def _attentions(self, bits: int | None, *, streamed: bool) -> Surface | None:
        """Of a prompt, which has no cache before it, either way."""
        found = [
            (Heads(r.heads, r.kv_heads, r.head_size, r.cache_bits), Call(r.batch, r.rows, r.past), r.seconds)
            for r in self._profile.attention
            if r.threads == self._threads
            and bits in (None, r.cache_bits)
            and (r.streamed == streamed or r.rows > 1)
        ]
        if streamed or any(call.rows == 1 for _, call, _ in found):
            return self._attention_surface(found, streamed=streamed)
        return None

    def _attention_surface(
        self, found: Sequence[tuple[Heads, Call, Interval]], *, streamed: bool
    ) -> Surface | None:
        return _surface(
            [_attention_point(heads, call) for heads, call, _ in found],
            [seconds for *_, seconds in found],
            [self._attended(heads, call, streamed=streamed) for heads, call, _ in found],
            _ATTENTION_REACH,
        )

    def _attended(self, heads: Heads, call: Call, *, streamed: bool) -> float:
        speed = self.memory if streamed else self.cache
        return self.roofline(heads.read(call), heads.flops(call), "fp32", speed)

    def _surface(self, key: object, made: Callable[[], Surface | None]) -> Surface | None:
        if key not in self._surfaces:
            self._surfaces[key] = made()
        return self._surfaces[key]


_MADE: dict[tuple[int, int], Tables] = {}


@dataclass(frozen=True)
class Sizes:
    """Of a product."""

    bits: int
    k: int
    n: int
    rows: int
    block: int
    zeros: bool

    @property
    def walked(self) -> int:
        """What a kernel goes through of a column: whole blocks."""
        return -(-self.k // self.block) * self.block if self.block else self.k

    @property
    def ragged(self) -> bool:
        """Whether what is read of a column does not end with a line of a cache: loads then meet two."""
        return bool(self.block) and self.walked * self.bits // 8 % _LINE != 0

    @property
    def point(self) -> list[float]:
        sizes = (self.k, self.n, self.rows, self.block or 1)
        return _logs((*sizes, 1 + self.zeros, 1 + self.ragged, self.walked / self.k))


def _attention_point(heads: Heads, call: Call) -> list[float]:
    """New tokens, keys that each sees, heads that share keys, their size, and how many share nothing."""
    batch, queries = (size_of(dim, call.batch, call.rows, call.past) for dim in (heads.batch, heads.queries))
    seen = heads.pairs(call) / queries
    return _logs((queries, seen, heads.heads / heads.kv_heads, heads.head_size, heads.kv_heads * batch))


def _logs(sizes: Iterable[float]) -> list[float]:
    return [math.log(size) for size in sizes]


def _surface(
    points: Sequence[list[float]], seconds: Sequence[Interval], units: Sequence[float], reach: Sequence[float]
) -> Surface | None:
    if not points:
        return None
    values = [math.log(one.value / unit) for one, unit in zip(seconds, units, strict=True)]
    return Surface(points, values, [sd_of(one) for one in seconds], reach)


def _read(surface: Surface, point: list[float], unit: float) -> Read:
    guess = surface.at(point)
    return Read(unit * math.exp(guess.value), guess.sd, guess.beyond > 1)
