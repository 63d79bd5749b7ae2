"""With which sizes and values a window is called, where legal calls of the model are known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil, prod

import numpy as np
import onnx_ir as ir

from graphopt.verify._inputs import Binding, Call, size_of
from graphopt.verify._values import VARIANTS, WIDE, Points
from graphopt.verify._window import Leaf, Window

__all__ = ["HEAVY_WEIGHTS", "different", "legal_calls", "special_calls"]

_CALLS = 4
"""Sizes of legal calls, where only sizes tell them apart. A judgement: each takes a run of every window."""
HEAVY_WEIGHTS = 1 << 20
"""Bytes of weights above which a window is run at few calls: each reads them again."""
_TURNS = 12
"""Calls at most among which a small input's special values are shared. A judgement, as for `_CALLS`."""
_BOUNDS = 6
"""Sizes, and inputs, that bounds of integers are tried with; as many as there are axes in `_guesses`."""


def legal_calls(
    window: Window, points: Points, legal: Sequence[Binding], longer: Sequence[Binding], *, lossy: bool
) -> list[Call]:
    """Calls of a window that its family says are legal."""
    bindings = legal
    known = legal[0].feeds
    if not any(leaf.source in known for leaf in window.leaves if not leaf.dtype.is_floating_point()):
        bindings = different(legal, 2 if lossy else _CALLS)
    if not window.leaves:
        return [Call(bindings[0])]
    if lossy:
        smallest = different(bindings, 1)[0]
        return [Call(b, "wide" if b is smallest and len(bindings) > 1 else "normal") for b in bindings]
    bindings = [*bindings, *longer]
    return [*map(Call, bindings), *special_calls(window, points, bindings[0], bindings[0], longer)]


def different(bindings: Sequence[Binding], count: int) -> list[Binding]:
    """A few that differ in sizes, the smallest and the largest among them."""
    by_size = {tuple(sorted(b.sizes.items())): b for b in bindings}
    ordered = sorted(by_size.values(), key=lambda b: int(np.prod([max(s, 1) for s in b.sizes.values()])))
    if len(ordered) <= count:
        return ordered
    steps = np.linspace(0, len(ordered) - 1, count).round().astype(int)
    return [ordered[step] for step in steps]


def special_calls(
    window: Window, points: Points, special: Binding, many: Binding, long: Sequence[Binding]
) -> Iterator[Call]:
    """Calls with values at which something may happen, where it takes values that nobody said are legal."""
    floats = [leaf for leaf in window.leaves if leaf.dtype.is_floating_point()]
    free = [x for x in window.leaves if not x.dtype.is_floating_point() and x.source not in special.feeds]
    integers = [leaf for leaf in free if not _is_flag(leaf)]
    if floats:
        yield from (Call(special, variant) for variant in VARIANTS[1:])
        yield from (Call(special, f"near {scale:g}") for scale in points.near)
        for group, taken in enumerate(points.floats):
            for turn in range(_turns(window, floats, len(taken), many)):
                yield Call(many, "points", group=group, turn=turn)
    elif free:
        yield Call(special, "zeros")
        yield from (Call(special, turn=turn) for turn in (0, 1))
    if not integers:
        return
    if any(leaf.picks for leaf in integers):
        yield from (Call(binding, integers="places") for binding in (many, *long))
        yield Call(many, integers="from the end")
    if b"Loop" in window.before.model:  # it may count that far
        return
    for turn in range(_turns(window, integers, len(points.integers[0]), many)):
        yield Call(many, integers="points", turn=turn)
    sizes = {size_of(d, special.sizes) for leaf in window.leaves for d in leaf.dims or ()}
    bounds = [*sorted(s for s in sizes if s is not None and s > 2)[:_BOUNDS], WIDE]
    yield from (Call(special, integers="below", below=bound) for bound in bounds)
    if len(integers) > 1:
        yield from (Call(many, integers="below", below=WIDE, alone=x.name) for x in integers[:_BOUNDS])
    yield from (Call(many, integers="limits", turn=turn) for turn in (0, 1))


def _is_flag(leaf: Leaf) -> bool:
    return leaf.dtype == ir.DataType.BOOL


def _turns(window: Window, leaves: Sequence[Leaf], count: int, binding: Binding) -> int:
    """How many calls it takes until the smallest of `leaves` has had all of so many points, within reason."""
    if window.weight_bytes > HEAVY_WEIGHTS:
        return 1
    sizes = [prod(size_of(d, binding.sizes) or 1 for d in leaf.dims or ()) for leaf in leaves]
    own = max(min(sizes) - min(sizes) // 2, 1)
    return min(ceil(count / own), _TURNS)
