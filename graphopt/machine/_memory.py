"""How fast memory and caches are read."""

from __future__ import annotations

import datetime
import math
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from graphopt.machine._intervals import interval_of
from graphopt.machine._profile import Interval, MemorySample, Tier
from graphopt.machine._turns import settled

__all__ = ["Cache", "Stream", "at_bandwidth", "caches", "memory_bytes"]

_CACHES = Path("/sys/devices/system/cpu")
_UNKNOWN = 64 << 20
"""Bytes that are taken for the last cache where the system names none. A judgement."""
_TIMES = 3
"""Reads of memory in a sample, the fastest of which counts."""
_CACHE_SECONDS = 0.004
_PARTS = (1 / 8, 1 / 4, 3 / 8, 1 / 2, 3 / 4, 1, 3 / 2)
"""Of the last cache: sizes of what is read again and again."""
_REPEATS = 7


class Cache:
    """A data cache: its level ("L2"), the bytes of one and how many cores share it."""

    def __init__(self, name: str, size: int, shared: int) -> None:
        self.name, self.bytes, self.shared = name, size, shared


def caches(root: Path = _CACHES) -> list[Cache]:
    """Those of the first core, the fastest first; none where the system does not say."""
    found = list[Cache]()
    for index in sorted((root / "cpu0" / "cache").glob("index*")):
        try:
            level, kind, size, shared = (
                (index / name).read_text().strip() for name in ("level", "type", "size", "shared_cpu_list")
            )
            if kind != "Instruction":
                found.append(Cache(f"L{level}", int(size.removesuffix("K")) << 10, _count(shared)))
        except (OSError, ValueError):
            continue
    return found


def _count(ranges: str) -> int:
    """How many numbers "0-3,8" names."""
    ends = [part.split("-") for part in ranges.split(",")]
    return sum(int(part[-1]) - int(part[0]) + 1 for part in ends)


def memory_bytes() -> int:
    """Bytes of memory in the machine; 0 where the system does not say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return 0


def at_bandwidth(seconds: float, size: float, now: float, then: float, faster: float = 1.0) -> float:
    """What takes `seconds` and reads `size` bytes, were bandwidth `then` and not `now`, and all else `faster`
    times as long.

    Reading and the rest overlap: they are added up as the legs of a triangle are. Reading is at most all.
    """
    reading = min(seconds, size / now)
    rest = math.sqrt(seconds**2 - reading**2)
    return math.hypot(faster * rest, reading * now / then)


class Stream:
    """Reads of a buffer that is larger than all caches, by threads that each read a part of it.

    What reads is numpy's greatest element of bytes. By hand, with one thread of a quiet AMD EPYC (Zen 4), it
    was 1.04 times as fast as the fastest of twelve loops in C; benchmarks/stream.py compares them.
    """

    def __init__(self, last: int | None = None) -> None:
        self.last = last or max((cache.bytes for cache in caches()), default=_UNKNOWN)
        self.bytes = 4 * self.last
        self._buffer = np.ones(self.bytes, np.uint8)
        self.samples: dict[int, list[MemorySample]] = {}
        self.reference: dict[int, float] = {}
        """What `usual` is about, by threads."""

    def sample(self, threads: int) -> float:
        """Bytes a second at this moment, kept in `samples`."""
        settled(threads)
        with ThreadPoolExecutor(threads) as pool:
            parts = np.array_split(self._buffer, threads)
            list(pool.map(_nothing, parts))
            best = max(self._read(pool, parts) for _ in range(_TIMES))
        now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
        self.samples.setdefault(threads, []).append(MemorySample(at=now, threads=threads, read=best))
        return best

    def _read(self, pool: ThreadPoolExecutor, parts: Sequence[NDArray[np.uint8]]) -> float:
        begun = time.perf_counter()
        list(pool.map(np.max, parts))
        return self.bytes / (time.perf_counter() - begun)

    def flush(self) -> None:
        """Have nothing else in the caches."""
        self._buffer[: 2 * self.last].max()

    def usual(
        self, seconds: Sequence[float], size: float, meanwhile: float, threads: int, faster: float = 1.0
    ) -> list[float]:
        """What takes `seconds` and reads `size` bytes, had memory given its `reference` and not `meanwhile`,
        and taken all else `faster` times as long."""
        return [at_bandwidth(s, size, meanwhile, self.reference[threads], faster) for s in seconds]

    def cache_rate(self, cache: Cache, threads: int) -> float:
        """Bytes a second that so many cores read from such caches of theirs."""
        sharing = min(cache.shared, threads)
        size = cache.bytes // 2 // sharing
        begins = [i * size % (self.bytes // 2) for i in range(threads)]
        parts = [self._buffer[begin : begin + size] for begin in begins]
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(_again, parts))
            return sum(pool.map(_again, parts))

    def working_sets(self, threads: int) -> dict[int, Interval]:
        """Bytes a second that so many threads read of what they read again and again, by its bytes."""
        found = dict[int, Interval]()
        with ThreadPoolExecutor(threads) as pool:
            for share in _PARTS:
                size = int(self.last * share)
                parts = np.array_split(self._buffer[:size], threads)
                found[size] = interval_of([sum(pool.map(_again, parts)) for _ in range(_REPEATS)])
        return found

    def cache_tiers(self, threads: Sequence[int]) -> list[Tier]:
        """Caches, measured now."""
        return [
            Tier(
                name=cache.name,
                bytes=cache.bytes,
                read={t: interval_of([self.cache_rate(cache, t) for _ in range(_REPEATS)]) for t in threads},
            )
            for cache in caches()
            if cache.bytes <= self.last
        ]


def _nothing(part: NDArray[np.uint8]) -> None:
    """What makes a thread begin."""


def _again(part: NDArray[np.uint8]) -> float:
    """Bytes a second of reading `part` over and over, by one thread.

    Each call reads it many times within numpy, since a call takes longer than a small cache.
    """
    many = np.lib.stride_tricks.as_strided(part, (max(1, (1 << 20) // len(part)), len(part)), (0, 1))
    done, begun = 0, time.perf_counter()
    while (taken := time.perf_counter() - begun) < _CACHE_SECONDS:
        many.max(axis=1)
        done += many.size
    return done / taken
