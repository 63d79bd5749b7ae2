"""Floats that products read again and again, by how many there are."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from graphopt.errors import BadInput
from graphopt.machine._graphs import Product, Weights, products
from graphopt.machine._intervals import interval_of
from graphopt.machine._profile import SetRate
from graphopt.machine._turns import settled, turns

if TYPE_CHECKING:
    from graphopt.targets import Target

__all__ = ["float_sets"]

_SHARES = (1 / 4, 1 / 2, 3 / 4, 1, 3)
"""Of the last cache."""
_ROWS = (1, 8)
_SECONDS = 0.02


def float_sets(
    target: Target, weights: Weights, last: int, threads: int, k: int = 576, n: int = 1536
) -> Iterator[SetRate]:
    """Of weights [k, n], for a last cache of so many bytes; none where `target` loads no such product."""
    one = Product(32, 0, False, k, n)
    calls = {rows: {"x": np.ones((rows, k), np.float32)} for rows in _ROWS}
    for share in _SHARES:
        copies = max(1, round(share * last / one.bytes))
        try:
            path = products(weights, one, copies).write(weights.folder / "floats.onnx")
            session = target.session(path, threads=threads)
        except BadInput:
            return
        settled(threads)
        group = {rows: functools.partial(session.run, ["sum"], feeds) for rows, feeds in calls.items()}
        for (_, rows), taken in turns({None: group}, _SECONDS, threads).items():
            size = copies * one.bytes
            rate = interval_of([size / seconds for seconds in taken])
            yield SetRate(rows=rows, bytes=size, threads=threads, read=rate)
