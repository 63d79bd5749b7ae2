"""Calls of a window in a graph of which nobody says what legal inputs are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod

import numpy as np
import onnx_ir as ir

from graphopt.verify._calls import HEAVY_WEIGHTS, special_calls
from graphopt.verify._inputs import Binding, Call, independent, size_of
from graphopt.verify._kernels import TOO_LARGE
from graphopt.verify._sums import completed, parts_of
from graphopt.verify._values import Points
from graphopt.verify._window import Window

__all__ = ["Guesses", "guessed_calls"]

# Primes: no size is another's, or a product of others. The first is the batch as a rule, which costs most.
_PRIMES = (7, 5, 3, 11, 13)
# Room for many special values in one call: 61 * 13 * 5 floats take 16 kB.
_MANY = (61, 13, 5, 3, 3)
_ALIKE = 7  # of every dimension: a prime, so that no product or quotient of others is it
_LONG = 37
"""Longer than each of the primes, and no multiple of them."""
_AXES = 6
"""Dimensions that are tried one by one. A judgement: each takes a run at each of its sizes."""
_NEAR = 3
"""Constants whose neighbours are tried as sizes, the smallest first: of many, most are no lengths."""
_MOST_BYTES, _LIGHT_BYTES = 1 << 29, 1 << 23
"""What all values of a call may take: 512 MiB, of the worker's 12 GiB; 8 MiB where there are many calls."""


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


@dataclass(frozen=True)
class _Sizes:
    """The dimensions of a window, by name, and the sizes that the given arrays fix."""

    names: Sequence[str]
    fixed: Mapping[str, int]

    def all(self, size: int) -> dict[str, int]:
        return {**dict.fromkeys(self.names, size), **self.fixed}

    def in_turn(self, sizes: Sequence[int]) -> dict[str, int]:
        return {**{name: sizes[i % len(sizes)] for i, name in enumerate(self.names)}, **self.fixed}

    def said(self, what: str) -> str:
        return f"all dynamic dims {what}" if self.names else "static dims"


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
    sizes = _Sizes(names, {n: s for n, s in bound.items() if n in names} if is_given else {})
    primes, ones = sizes.in_turn(_PRIMES), sizes.all(1)
    made = [Binding(sizes.said("= 1"), ones, arrays), Binding(sizes.said("prime"), primes, arrays)]
    missing = ""
    if guesses.sizes:
        made = list(_as_given(made, guesses))
        many = made[-1]
    else:
        made.append(Binding(sizes.said(f"= {_ALIKE}"), sizes.all(_ALIKE), arrays))
        free = [name for name in names if name not in sizes.fixed][:_AXES]
        chosen, missing = _one_by_one(window, free, primes, ones, guesses.sums, lossy=lossy)
        made += [replace(binding, feeds=arrays) for binding in chosen]
        many = Binding(sizes.said("large"), sizes.in_turn(_MANY), arrays)
        if _bytes(window, many.sizes) > _LIGHT_BYTES or window.weight_bytes > HEAVY_WEIGHTS:
            many = made[1]
    made, many = [guesses.complete(b) for b in made], guesses.complete(many)
    different = {tuple(sorted(b.sizes.items())): b for b in reversed(made)}
    kept = [b for b in made if different[tuple(sorted(b.sizes.items()))] is b]
    if not window.leaves:
        return [Call(kept[0])], missing
    if lossy:
        return [Call(kept[0], "wide"), *map(Call, kept)], missing
    special = made[min(1, len(made) - 1)]  # several rows, so that one can spoil another
    rows = [] if guesses.sizes else list(_all_rows(window, primes, sizes.fixed, arrays))
    long = [*(b for b in kept if b.is_long), *rows]
    return [*map(Call, kept), *special_calls(window, points, special, many, long)], missing


def _as_given(bindings: Sequence[Binding], guesses: Guesses) -> Iterator[Binding]:
    """Each with each of the sizes that the user gave."""
    for index in range(max(map(len, guesses.sizes.values()))):
        chosen = {name: sizes[index % len(sizes)] for name, sizes in guesses.sizes.items()}
        said = ", ".join(f"{name} = {size}" for name, size in chosen.items())
        for binding in bindings:
            sizes = dict(binding.sizes) | completed(chosen, guesses.sums)
            yield replace(binding, name=said, sizes=sizes, is_long=True)


def _one_by_one(
    window: Window,
    names: Sequence[str],
    primes: Mapping[str, int],
    ones: Mapping[str, int],
    sums: Mapping[str, tuple[int | str, ...]],
    *,
    lossy: bool,
) -> tuple[list[Binding], str]:
    """One dimension after the other long, at the window's constants, 0 and 1."""
    made: list[Binding] = []
    missing, reached = "", set()
    lengths = {(part, c) for axis, c in window.lengths for part in (parts_of(axis, sums) if axis else [None])}
    for name in names:
        own = sorted({c for axis, c in lengths if axis in (name, None)} if not lossy else ())
        long = max(_LONG, *(c + 1 for c in own), 0)
        chosen = {c + d for c in (*own[:_NEAR], *own[-1:]) for d in (-1, 0, 1)} - {0, 1, primes[name], long}
        for size in (long, *sorted(chosen)[-2 * _NEAR :]):
            choices = [completed({**others, name: size}, sums) for others in (primes, ones)]
            fitting = [sizes for sizes in choices if _bytes(window, sizes) <= _MOST_BYTES]
            if fitting:
                made.append(Binding(f"{name} = {size}", fitting[0], {}, is_long=size == long))
                reached |= {c for c in own if c < size}
            elif any(axis == name for axis, _ in lengths):
                missing = f"{TOO_LARGE} at {name} = {size}"
    beyond = [c for axis, c in window.lengths if axis is None and c not in reached and names and not lossy]
    if beyond:
        missing = f"{TOO_LARGE} at a length of {max(beyond) + 1}"
    if not lossy:
        at_least = 1 if len(names) > 1 and window.weight_bytes <= HEAVY_WEIGHTS else 0
        for size in range(at_least + 1):
            made += [Binding(f"{name} = {size}", {**primes, name: size}, {}) for name in names]
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
                yield Binding(f"{count} rows looked up", {**ones, free[0]: count}, arrays)


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
