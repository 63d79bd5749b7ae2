"""What is known of memory's bandwidth over time, and what follows for rates that depend on it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from itertools import chain

import numpy as np

from graphopt.machine._attention import cache_bytes
from graphopt.machine._graphs import Product
from graphopt.machine._intervals import interval_of
from graphopt.machine._memory import at_bandwidth
from graphopt.machine._profile import AttentionRate, Interval, MemorySample, ProductRate, Profile

__all__ = ["with_memory"]

_MOMENT = 10
"""Seconds whose samples count as one: what memory gives a second later is much the same."""
_KEPT = 400
"""Moments of a thread count that are kept, the latest."""


def with_memory(profile: Profile, samples: Iterable[MemorySample]) -> Profile:
    """`profile` with more samples of its memory: the interval of the last tier is that of all of them, and
    what streams from memory takes as long as at the new middle of it."""
    moments = _moments(chain(profile.memory, samples))
    last = profile.tiers[-1]
    read = dict(last.read)
    for threads in {one.threads for one in moments}:
        read[threads] = interval_of([one.read for one in moments if one.threads == threads])
    before = {threads: last.read[threads].value for threads in read.keys() & last.read.keys()}

    def moved(seconds: Interval, size: float, threads: int) -> Interval:
        if threads not in before:
            return seconds
        now, then = before[threads], read[threads].value
        return Interval(
            **{name: at_bandwidth(value, size, now, then) for name, value in seconds.model_dump().items()}
        )

    def product(one: ProductRate) -> ProductRate:
        size = Product(one.bits, one.block, one.zeros, one.k, one.n).bytes
        return one.model_copy(update={"seconds": moved(one.seconds, size, one.threads)})

    def attention(one: AttentionRate) -> AttentionRate:
        return one.model_copy(update={"seconds": moved(one.seconds, cache_bytes(one), one.threads)})

    return profile.model_copy(
        update={
            "tiers": (*profile.tiers[:-1], last.model_copy(update={"read": read})),
            "memory": tuple(moments),
            "products": tuple(product(one) if one.streamed else one for one in profile.products),
            "attention": tuple(attention(one) for one in profile.attention),
        }
    )


def _moments(samples: Iterable[MemorySample]) -> list[MemorySample]:
    """One for each moment and thread count, in order of time."""
    found = defaultdict[tuple[int, int], list[MemorySample]](list)
    for one in samples:
        found[one.threads, int(one.at.timestamp()) // _MOMENT].append(one)
    kept = list[MemorySample]()
    for threads in sorted({threads for threads, _ in found}):
        moments = sorted(key for key in found if key[0] == threads)[-_KEPT:]
        kept += [
            found[key][0].model_copy(update={"read": float(np.median([one.read for one in found[key]]))})
            for key in moments
        ]
    return kept
