"""Memory that belongs to the cores of another node."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["far_rates", "nodes"]

_NODES = Path("/sys/devices/system/node")
_TIMES = 5


def nodes(root: Path = _NODES) -> dict[int, frozenset[int]]:
    """Cores by node, those that this process may run on; none where the system does not say."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    found = {}
    for folder in root.glob("node[0-9]*"):
        try:
            cores = _numbers((folder / "cpulist").read_text().strip())
        except (OSError, ValueError):
            continue
        if cores & allowed:
            found[int(folder.name.removeprefix("node"))] = frozenset(cores & allowed)
    return dict(sorted(found.items()))


def _numbers(ranges: str) -> set[int]:
    """Those that "0-3,8" names."""
    ends = [part.split("-") for part in ranges.split(",") if part]
    return {number for part in ends for number in range(int(part[0]), int(part[-1]) + 1)}


def far_rates(size: int, threads: int, known: Mapping[int, frozenset[int]] | None = None) -> list[float]:
    """Bytes a second that threads on the second node read from `size` bytes of the first one's memory,
    several times; none where there is one node alone. Memory is of the node whose core writes to it first."""
    known = nodes() if known is None else known
    if len(known) < 2:
        return []
    near, far = list(known.values())[:2]
    with ThreadPoolExecutor(1, initializer=functools.partial(_pin, near)) as pool:
        buffer = pool.submit(np.ones, size, np.uint8).result()
    parts = np.array_split(buffer, min(threads, len(far)))
    with ThreadPoolExecutor(len(parts), initializer=functools.partial(_pin, far)) as pool:
        list(pool.map(np.max, parts))
        return [size / _seconds(pool, parts) for _ in range(_TIMES)]


def _pin(cores: frozenset[int]) -> None:
    """Have this thread run on `cores` alone."""
    os.sched_setaffinity(0, cores)


def _seconds(pool: ThreadPoolExecutor, parts: list[NDArray[np.uint8]]) -> float:
    begun = time.perf_counter()
    list(pool.map(np.max, parts))
    return time.perf_counter() - begun
