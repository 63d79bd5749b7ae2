"""How long nodes take on a machine, by what its profile measured or cites."""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass, replace

import numpy as np

from graphopt.cost._tables import FEW, Read, Sizes, Tables, by_threads, sd_of
from graphopt.cost._work import FLOAT, Call, GraphWork, Heads, NodeWork, Product
from graphopt.machine import Profile

__all__ = ["Rates", "Taken", "reread"]

_UNMEASURED = 0.35
"""Standard deviation of the logarithm of a time that is told by bytes and operations alone."""
_SMALL = 0.7
"""The same of a small operator that is taken to be like others."""
_OTHER_THREADS = 0.5
"""Standard deviation for each factor of e between the threads that are asked for and those measured."""


@dataclass(frozen=True)
class Taken:
    """What a node takes: seconds, of these by reading memory, bytes and operations.

    `sd` is of the logarithm of seconds. `table` names what the time was read from: errors of times that were
    read from one table are taken to be the same. `widened` says what was not measured.
    """

    seconds: float
    sd: float
    reading: float
    bytes: float
    flops: float
    table: str
    widened: str = ""


class Rates:
    """Seconds of nodes on a machine with so many threads.

    `bandwidth` is that of the moment, where known. `reread` is how many bytes of weights and caches a call
    reads before it comes back to the same: what exceeds the last-level cache comes from memory. `pulse` is
    what a call of the machine's pulse takes at the moment, where known.
    """

    def __init__(
        self,
        profile: Profile,
        threads: int,
        bandwidth: float | None,
        reread: float,
        pulse: float | None = None,
    ) -> None:
        self._profile = profile
        memory = profile.tiers[-1]
        self.threads = min(memory.read, key=lambda count: abs(count - threads))
        self._cited = profile.kind == "cited"
        self._tables = Tables.of(profile, self.threads)
        self._now = bandwidth or self._tables.memory
        self.memory_sd = 0.0 if bandwidth else sd_of(by_threads(memory.read, self.threads))
        self.from_memory = self._tables.from_memory(reread)
        self._reread = reread
        usual = profile.pulse.get(self.threads)
        self._slower = pulse / usual.value if pulse and usual else 1.0
        self._operators = {r.operator: r for r in profile.operators if r.threads == self.threads}
        self._found: dict[Hashable, Taken] = {}
        asked = threads / self.threads if not self._cited and self.threads else 1.0
        self.threads_sd = _OTHER_THREADS * abs(math.log(asked))

    def of(self, node: NodeWork, call: Call) -> Taken:
        """What a node takes in a call."""
        key: Hashable = node.attention or (node.operator, node.elements(call), node.read(call))
        if node.product is not None and node.attention is None:
            key = (replace(node.product, name=""), node.read(call), bool(node.product.name))
        if key not in self._found:
            self._found[key] = self._taken(node, call)
        return self._found[key]

    def pace(self, call: Call) -> float:
        """How many times as long as its profile says the machine takes at the moment of what does not come
        from memory: of few rows, since nothing was found of many that follows the pulse."""
        return self._slower if call.batch * call.rows <= FEW else 1.0

    def bound(self, size: float, flops: float, kind: str) -> tuple[str, float]:
        """What bounds work that reads so many bytes and computes so much, and how long it takes at least."""
        reading, computing = size / self._now, flops / self._tables.peak(kind)
        return ("memory", reading) if reading >= computing else ("compute", computing)

    def _taken(self, node: NodeWork, call: Call) -> Taken:
        if node.attention is not None:
            return self._attention(node.attention, call)
        if node.product is not None:
            return self._product(node.product, node.read(call), call)
        return self._other(node, call)

    def _product(self, product: Product, size: float, call: Call) -> Taken:
        rows, flops = max(product.row_count(call), 1), float(product.flops(call))
        kind, table = _kind(product.bits), f"products of {product.bits} bits"
        if self._cited:
            return self._by_sheet("product", size, flops, kind)
        if not product.name:
            seconds = self._tables.roofline(size, flops, kind, self._now)
            said = "products of two computed operands were not measured"
            return Taken(seconds, _UNMEASURED, 0.0, size, flops, "computed products", said)
        met = product.met(call)
        each = max(round(rows * product.chosen / met), 1)
        sizes = Sizes(product.bits, product.k, product.n, each, product.block, product.zeros)
        slow, fast = (self._tables.product(sizes, streamed=way) for way in (True, False))
        slow, fast = slow or fast, fast or slow
        if slow is None or fast is None:
            seconds = self._tables.roofline(size, flops, kind, self._now)
            return Taken(
                seconds, _UNMEASURED, size / self._now, size, flops, table, f"{table} were not measured"
            )
        widened = f"{table} were measured of other sizes only" if slow.beyond else ""
        if product.experts > 1:
            widened = "experts were not measured: each is taken for a product"
            several = _times(slow, met)
            slow, fast = several, several if fast is slow else _times(fast, met)
        share = self.from_memory
        if not product.block:
            share = self._tables.from_memory(self._reread, floats=rows)
        pace = self.pace(call)
        return self._read(slow, self._paced(fast, slow, call), share, size, flops, table, widened, pace)

    def _attention(self, heads: Heads, call: Call) -> Taken:
        size, flops = float(heads.read(call)), float(heads.flops(call))
        if self._cited:
            return self._by_sheet("attention", size, flops, "fp32")
        table = f"attention with a cache of {heads.cache_bits} bits"
        slow, fast = (self._tables.attention(heads, call, streamed=way) for way in (True, False))
        fast, share = fast or slow, self.from_memory
        if slow is None or fast is None:
            seconds = self._tables.roofline(size, flops, "fp32", self._now)
            return Taken(
                seconds, _UNMEASURED, size / self._now, size, flops, table, f"{table} was not measured"
            )
        if not self._tables.measured_cache(heads.cache_bits):
            slow, fast = (replace(one, sd=math.hypot(one.sd, _UNMEASURED)) for one in (slow, fast))
            return self._read(slow, fast, share, size, flops, table, f"{table} was not measured")
        widened = f"{table} was measured of other sizes only" if slow.beyond else ""
        return self._read(slow, self._paced(fast, slow, call), share, size, flops, table, widened)

    def _paced(self, fast: Read, slow: Read, call: Call) -> Read:
        """What does not come from memory, at the moment; where it was not measured it is what does."""
        return fast if fast is slow else replace(fast, seconds=self.pace(call) * fast.seconds)

    def _read(
        self,
        slow: Read,
        fast: Read,
        share: float,
        size: float,
        flops: float,
        table: str,
        widened: str,
        pace: float = 1.0,
    ) -> Taken:
        """Between a time whose bytes come from memory, a `share`, and one whose bytes do not; what is no
        reading takes `pace` times as long as measured."""
        moved, reading = self._at_the_moment(slow, fast, size, pace)
        seconds = share * moved + (1 - share) * fast.seconds
        sd = (share * moved * slow.sd + (1 - share) * fast.seconds * fast.sd) / seconds
        if 0 < share < 1 and slow.seconds > fast.seconds:
            sd = math.hypot(sd, math.log(slow.seconds / fast.seconds) / 4)
        return Taken(seconds, sd, share * reading, share * size, flops, table, widened)

    def _at_the_moment(self, slow: Read, fast: Read, size: float, pace: float) -> tuple[float, float]:
        """Seconds with the bandwidth of the moment, and what of them is reading.

        Reading and computing overlap: their times are added up as the legs of a triangle are.
        """
        reading = min(size / self._tables.memory, slow.seconds)
        rest = math.sqrt(slow.seconds**2 - reading**2)
        now = reading * self._tables.memory / self._now
        floor = min(fast.seconds, slow.seconds) if fast is not slow else 0.0
        return max(math.hypot(pace * rest, now), floor), now

    def _other(self, node: NodeWork, call: Call) -> Taken:
        elements = float(node.elements(call))
        size = 8 * elements
        if self._cited:
            return self._by_sheet("other operators", size, elements, "fp32")
        table, rate = f"operator {node.operator}", self._operators.get(node.operator)
        if rate is None:
            seconds = self._tables.dispatch + elements * self._usual_element()
            said = f"{node.operator} was not measured: taken for another small operator"
            return Taken(seconds, _SMALL, 0.0, size, elements, table, said)
        each = elements * rate.element.value
        seconds = rate.call.value + each
        sd = (rate.call.value * sd_of(rate.call) + each * sd_of(rate.element)) / seconds
        return Taken(self.pace(call) * seconds, sd, 0.0, size, elements, table)

    def _usual_element(self) -> float:
        known = [rate.element.value for rate in self._operators.values()]
        return float(np.median(known)) if known else 8 / self._tables.cache

    def _by_sheet(self, what: str, size: float, flops: float, kind: str) -> Taken:
        """The slower of reading and computing, as fast as the profile says that kernels do both."""
        reading, computing = size / self._now, flops / self._tables.peak(kind)
        reads = reading >= computing
        sd = self._tables.memory_sd if reads else self._tables.peak_sd(kind)
        seconds = max(reading, computing) + self._tables.dispatch
        return Taken(seconds, sd, reading if reads else 0.0, size, flops, what)


def _kind(bits: int) -> str:
    return "fp32" if bits >= FLOAT else "int8"


def _times(one: Read, count: float) -> Read:
    """So many, where nobody measured several."""
    return replace(one, seconds=count * one.seconds, sd=math.hypot(one.sd, _UNMEASURED))


def reread(work: GraphWork, call: Call) -> float:
    """Bytes of weights and caches that a call reads, those that several nodes share once."""
    caches = (node.attention.read(call) for node in work.nodes if node.attention is not None)
    return work.read(call) + sum(caches)
