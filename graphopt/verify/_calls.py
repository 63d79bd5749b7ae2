"""With which sizes and values a window is called: legal ones where they are known, else guesses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil, prod

import numpy as np
import onnx_ir as ir

from graphopt.verify._inputs import Binding, Call, independent, size_of
from graphopt.verify._kernels import TOO_LARGE
from graphopt.verify._sums import completed, parts_of
from graphopt.verify._values import VARIANTS, WIDE, Points
from graphopt.verify._window import Leaf, Window

__all__ = ["Guesses", "different", "guessed_calls", "legal_calls"]

_PRIMES, _MANY = (7, 5, 3, 11, 13), (61, 13, 5, 3, 3)
_LONG, _AXES, _NEAR = 37, 6, 3
_CALLS = 4
_MOST_BYTES, _LIGHT_BYTES, _HEAVY_WEIGHTS = 1 << 29, 1 << 23, 1 << 20
_TURNS, _BOUNDS = 12, 6


@dataclass(frozen=True)
class Guesses:
    """What the user said of a graph of unknown meaning: `arrays` of one call, `sizes` to try.

    `bound`: the sizes of named dimensions in the call that the arrays are of. `sums`: names of sizes that are
    sums of others.
    """

    arrays: Mapping[str, np.ndarray]
    sizes: Mapping[str, Sequence[int]]
    bound: Mapping[str, int]
    sums: Mapping[str, tuple[int | str, ...]] = field(default_factory=dict)

    def complete(self, binding: Binding) -> Binding:
        """The binding with the sizes that follow from its own."""
        return replace(binding, sizes=completed(binding.sizes, self.sums))


def guessed_calls(window: Window, points: Points, guesses: Guesses, *, lossy: bool) -> tuple[list[Call], str]:
    """Calls of a window in a graph of unknown meaning, and which needed ones are too large, in words.

    Each dimension is 1, then a prime, and one after the other long, 0 and what the window's constants say.
    Where it takes values of the given arrays, it has their sizes.
    """
    named = independent(d for leaf in window.leaves for d in leaf.dims or () if isinstance(d, str))
    names = list(dict.fromkeys(part for name in named for part in parts_of(name, guesses.sums)))
    is_given = any(leaf.source in guesses.arrays for leaf in window.leaves)
    arrays = guesses.arrays if is_given else {}
    bound = completed(guesses.bound, guesses.sums)
    fixed = {n: s for n, s in bound.items() if n in names} if is_given else {}
    primes = {name: _PRIMES[i % len(_PRIMES)] for i, name in enumerate(names)} | fixed
    ones = dict.fromkeys(names, 1) | fixed
    made = [Binding("each 1", ones, arrays), Binding("primes", primes, arrays)]
    missing = ""
    if guesses.sizes:
        count = max(map(len, guesses.sizes.values()))
        chosen = [{n: v[i % len(v)] for n, v in guesses.sizes.items()} for i in range(count)]
        made = [
            Binding(f"given {i + 1}", dict(b.sizes) | completed(c, guesses.sums), arrays)
            for i, c in enumerate(chosen)
            for b in made
        ]
        many = made[-1]
    else:
        made.append(Binding("all alike", dict.fromkeys(names, 7) | fixed, arrays))
        free = [name for name in names if name not in fixed][:_AXES]
        sizes, missing = _sizes(window, free, primes, ones, guesses.sums, lossy=lossy)
        made += [Binding(name, chosen, arrays) for name, chosen in sizes]
        many = Binding("many", {n: _MANY[i % len(_MANY)] for i, n in enumerate(names)} | fixed, arrays)
        if _bytes(window, many.sizes) > _LIGHT_BYTES or window.weight_bytes > _HEAVY_WEIGHTS:
            many = made[1]
    made, many = [guesses.complete(b) for b in made], guesses.complete(many)
    different = {tuple(sorted(b.sizes.items())): b for b in reversed(made)}
    kept = [b for b in made if different[tuple(sorted(b.sizes.items()))] is b]
    if not window.leaves:
        return [Call(kept[0])], missing
    if lossy:
        return [Call(kept[0], "wide"), *map(Call, kept)], missing
    special = made[min(1, len(made) - 1)]  # several rows, so that one can spoil another
    long = [b for b in kept if b.name.startswith(("long", "given"))]
    rows = [] if guesses.sizes else list(_all_rows(window, primes, fixed, arrays))
    return [*map(Call, kept), *_special(window, points, special, many, [*long, *rows])], missing


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
    return [*map(Call, bindings), *_special(window, points, bindings[0], bindings[0], longer)]


def different(bindings: Sequence[Binding], count: int) -> list[Binding]:
    """A few that differ in sizes, the smallest and the largest among them."""
    by_size = {tuple(sorted(b.sizes.items())): b for b in bindings}
    ordered = sorted(by_size.values(), key=lambda b: int(np.prod([max(s, 1) for s in b.sizes.values()])))
    if len(ordered) <= count:
        return ordered
    steps = np.linspace(0, len(ordered) - 1, count).round().astype(int)
    return [ordered[step] for step in steps]


def _sizes(
    window: Window,
    names: Sequence[str],
    primes: Mapping[str, int],
    ones: Mapping[str, int],
    sums: Mapping[str, tuple[int | str, ...]],
    *,
    lossy: bool,
) -> tuple[list[tuple[str, dict[str, int]]], str]:
    """One dimension after the other long, at the window's constants, 0 and 1."""
    made, missing, reached = [], "", set()
    lengths = {(part, c) for axis, c in window.lengths for part in (parts_of(axis, sums) if axis else [None])}
    for name in names:
        own = sorted({c for axis, c in lengths if axis in (name, None)} if not lossy else ())
        long = max(_LONG, *(c + 1 for c in own), 0)
        chosen = {c + d for c in (*own[:_NEAR], *own[-1:]) for d in (-1, 0, 1)} - {0, 1, primes[name], long}
        for size in (long, *sorted(chosen)[-2 * _NEAR :]):
            choices = [completed({**others, name: size}, sums) for others in (primes, ones)]
            fitting = [sizes for sizes in choices if _bytes(window, sizes) <= _MOST_BYTES]
            if fitting:
                title = f"long {name}" if size == long else f"{name} = {size}"
                made.append((title, fitting[0]))
                reached |= {c for c in own if c < size}
            elif any(axis == name for axis, _ in lengths):
                missing = f"{TOO_LARGE} at {name} = {size}"
    beyond = [c for axis, c in window.lengths if axis is None and c not in reached and names and not lossy]
    if beyond:
        missing = f"{TOO_LARGE} at a length of {max(beyond) + 1}"
    if not lossy:
        made += [(f"no {name}", {**primes, name: 0}) for name in names]
        if len(names) > 1 and window.weight_bytes <= _HEAVY_WEIGHTS:
            made += [(f"one {name}", {**primes, name: 1}) for name in names]
    return made, missing


def _all_rows(
    window: Window, primes: Mapping[str, int], fixed: Mapping[str, int], arrays: Mapping[str, np.ndarray]
) -> Iterator[Binding]:
    """Calls that look up as many rows as a new table has, or as many as can be run."""
    for leaf in window.leaves:
        free = [d for d in leaf.dims or () if isinstance(d, str) and d in primes and d not in fixed]
        if not free or leaf.dtype.is_floating_point() or leaf.source in arrays:
            continue
        for rows in {n for n in leaf.picks if isinstance(n, int)} & set(window.tables):
            ones = {**dict.fromkeys(primes, 1), **fixed}
            if each := _bytes(window, {**ones, free[0]: 2}) - _bytes(window, {**ones, free[0]: 1}):
                count = min(rows, int(_MOST_BYTES / each))
                yield Binding(f"{count} rows", {**ones, free[0]: count}, arrays)


def _bytes(window: Window, sizes: Mapping[str, int]) -> float:
    """What all that a window computes takes, as far as its dimensions are known."""
    total = 0.0
    for leaf in window.leaves:
        if leaf.dims is not None:
            total += prod(size_of(d, sizes) or 1 for d in leaf.dims) * _width(leaf.dtype)
    for dims, itemsize in window.values:
        total += prod(size_of(d, sizes) or 1 for d in dims) * itemsize
    return total


def _width(dtype: ir.DataType) -> float:
    return 8 if dtype == ir.DataType.STRING else dtype.bitwidth / 8


def _special(
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
    if window.weight_bytes > _HEAVY_WEIGHTS:
        return 1
    sizes = [prod(size_of(d, binding.sizes) or 1 for d in leaf.dims or ()) for leaf in leaves]
    own = max(min(sizes) - min(sizes) // 2, 1)
    return min(ceil(count / own), _TURNS)
