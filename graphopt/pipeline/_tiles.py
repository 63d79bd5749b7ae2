"""Work on a weight too large to be held, some rows at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from numpy.typing import NDArray

from graphopt.ir import Expr, simplified, tile_regions
from graphopt.runtime import default_threads

__all__ = ["map_tiles"]

T = TypeVar("T")


def map_tiles(rows: Expr, work: Callable[[NDArray[Any]], T], *, max_bytes: int | None = None) -> Iterator[T]:
    """`work(tile)` for consecutive tiles of rows, in order, read and worked on by the machine's threads.

    Few are held at a time. A tile is of about `max_bytes`; without, of what is read fastest.
    """
    threads, rows = default_threads(), simplified(rows)
    waiting: deque[Future[T]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for region in tile_regions(rows, max_bytes):
            waiting.append(pool.submit(lambda region: work(rows.read(region)), region))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
