"""Calls at a model's last positions, and at all of them where a window has a new table of them."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from graphopt.verify._inputs import Binding, of_case, shapes_of

if TYPE_CHECKING:
    from graphopt.families import InputDomain
    from graphopt.interface import Interface
    from graphopt.verify._window import Window

__all__ = ["far_bindings"]

_AT_THE_END = (5, 1)
"""New positions of the calls at the end: a chunk, and a token as it is decoded."""
_A_CALL = _ALL_CALLS = 1 << 22
"""Numbers in a call, and in all calls of a table. A judgement: 16 MiB of float32 for each window."""
_WEIGHTS = 1 << 25
"""Elements of a weight above which a window has a large product: one with 32 tokens is 1e9 additions."""
_MOST = 512
"""Positions of one call of a table: a mask has as many columns for each of them."""


def far_bindings(domain: InputDomain, interface: Interface, window: Window, seed: int) -> Iterator[Binding]:
    """Legal calls at the last positions, as far as `window` is cheap to run there and positions reach it.

    Where the window brings a table with as many rows, there are calls for all of them, or for evenly spaced
    ones where they would take too long.
    """
    last = domain.positions
    if last is None or last <= _AT_THE_END[0] or not _is_reached(window):
        return

    def at(start: int, count: int) -> Iterator[Binding]:
        for case in domain.reaching(np.random.default_rng(seed), start, count):
            binding = of_case(case, interface)
            shapes = shapes_of(window.leaves, binding)
            if shapes is None:
                continue
            longest = max(
                (size for shape in shapes for size in shape), default=1
            )  # a mask has as many columns
            if sum(map(prod, shapes)) + count * longest <= _A_CALL:
                yield binding

    for count in _AT_THE_END:
        yield from at(last - count, count)
    if not any(length >= last for length in window.tables):
        return
    one = next(at(0, 1), None)
    each = max(1, sum(map(prod, (one and shapes_of(window.leaves, one)) or ())))
    count = max(1, min(_MOST, _A_CALL // (2 * each), last))
    starts = range(0, last, count)
    affordable = max(1, _ALL_CALLS // (each * count))
    for index in np.linspace(0, len(starts) - 1, min(len(starts), affordable)).round().astype(int):
        yield from at(starts[index], min(count, last - starts[index]))


def _is_reached(window: Window) -> bool:
    """Whether it takes what says which positions there are, and has no large product."""
    held = {name: w.expr for piece in (window.before, window.after) for name, w in piece.weights.items()}
    taken = any(leaf.source is not None and not leaf.dtype.is_floating_point() for leaf in window.leaves)
    return taken and all(prod(expr.shape) <= _WEIGHTS for expr in held.values())
