"""What windows are fed with: legal masks, positions and lengths, and free numbers for everything else."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from math import prod
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from graphopt.verify._kernels import TOO_LARGE
from graphopt.verify._values import (
    FLAGS,
    FLOATS_IN_WORDS,
    INTEGERS_IN_WORDS,
    Points,
    free_floats,
    free_integers,
)
from graphopt.verify._window import Dim, Leaf

if TYPE_CHECKING:
    from graphopt.families import Case, InputDomain
    from graphopt.interface import Adapter, Interface

__all__ = [
    "Binding",
    "Call",
    "Undecided",
    "adapted",
    "feeds_of",
    "implied",
    "independent",
    "legal_bindings",
    "longer_bindings",
    "most_steps",
    "of_case",
    "shapes_of",
    "size_of",
    "valid_part",
]

_DIFFERENCE_DIVIDED = re.compile(r"- .*//")
"""In a size: an exporter's division rounds down and a graph's to zero, so below zero they say two things."""
_MULTIPLES = 64
"""Sizes at which a formula is tried: one that is zero at none of them is taken for a multiple."""
_ELEMENTS = 1 << 26
"""Numbers of one call: 256 MiB as float32, of which the worker holds both sides' results too."""


class Undecided(Exception):
    """Why a window cannot be fed."""


@dataclass(frozen=True)
class Binding:
    """One call of the whole model: sizes by dimension name, values by graph input.

    `valid` says, for names of dimensions, which of their places are specified: padding is not. `case` is the
    family's call that it stands for, None where it is a guess. `is_long`: a guess at which an axis is longer
    than every constant of the window, or as long as the user said.
    """

    name: str
    sizes: Mapping[str, int]
    feeds: Mapping[str, np.ndarray]
    valid: Mapping[tuple[str, ...], np.ndarray] = field(default_factory=dict)
    case: Case | None = None
    is_long: bool = False


@dataclass(frozen=True)
class Call:
    """How a window is called: with which kind of free floats, and of free integers.

    `graphopt.verify._values` has the kinds. `group` and `turn` say which points are taken. `below` bounds
    integers. Only the leaf called `alone` gets the integers of that kind, if one is named, and the others
    places of what they choose from.
    """

    binding: Binding
    variant: str = "normal"
    integers: str = "flags"
    group: int = 0
    turn: int = 0
    below: int = FLAGS
    alone: str | None = None

    @property
    def is_particular(self) -> bool:
        """Whether the values are chosen by the window's constants, or by the types."""
        return self.variant == "points" or self.integers in ("points", "limits", "from the end")

    @property
    def name(self) -> str:
        """What is fed, in words."""
        floats = FLOATS_IN_WORDS.get(self.variant, f"inputs {self.variant}")
        integers = INTEGERS_IN_WORDS[self.integers].format(self.below)
        return ", ".join(filter(None, (self.binding.name, floats, integers)))


def legal_bindings(domain: InputDomain, interface: Interface, seed: int) -> list[Binding]:
    """The family's legal calls, every kind of padding among them."""
    rng = np.random.default_rng(seed)
    return [of_case(case, interface) for case in (*domain.cases(rng), *domain.edges(rng))]


def of_case(case: Case, interface: Interface) -> Binding:
    sizes: dict[str, int] = {}
    for spec in interface.inputs:
        shape = case.feeds[spec.name].shape
        sizes |= {dim: size for dim, size in zip(spec.dims, shape, strict=True) if isinstance(dim, str)}
    valid: dict[tuple[str, ...], np.ndarray] = {}
    for spec in interface.outputs:
        mask = case.compare.get(spec.name)
        if mask is None:
            continue
        named = {
            a: d for a, d in enumerate(spec.dims) if isinstance(d, str) and mask.shape[a] == sizes.get(d)
        }
        cut = mask[tuple(slice(None) if a in named else 0 for a in range(mask.ndim))]
        if not cut.all():
            valid[tuple(named.values())] = cut
    return Binding(case.name, sizes, case.feeds, valid, case)


def longer_bindings(domain: InputDomain, interface: Interface, length: int, seed: int) -> list[Binding]:
    """The family's legal calls with `length` positions."""
    return [of_case(case, interface) for case in domain.longer(np.random.default_rng(seed), length)]


def independent(dims: Iterable[str]) -> list[str]:
    """Those of `dims` that do not follow from others of them, as `batch*sequence` does from both."""
    names = set(dims)
    return sorted(name for name in names if not _symbols(name) <= names - {name})


@lru_cache(4096)
def _symbols(dim: str) -> frozenset[str]:
    try:
        return ir.SymbolicDim(dim).free_symbols()
    except ValueError:  # a name that is no formula
        return frozenset([dim])


def feeds_of(
    leaves: Sequence[Leaf],
    call: Call,
    adapters: Sequence[Adapter],
    points: Points,
    seed: int,
    fixed: Mapping[str, np.ndarray] = MappingProxyType({}),
) -> dict[str, np.ndarray]:
    """An array for every leaf, of legal values where they are known.

    Leaves whose source is in `fixed` are what it says. Raises `Undecided` where a size or legal value is
    unknown, or too large.
    """
    rng = np.random.default_rng(seed)
    binding, variant = call.binding, call.variant
    known = dict(binding.feeds)
    for adapter in adapters:
        with contextlib.suppress(KeyError):  # a guess has not all that it takes
            known = adapter.feeds(known)
    feeds: dict[str, np.ndarray] = {}
    room = _ELEMENTS
    has_flags = any(not leaf.dtype.is_floating_point() and leaf.source not in known for leaf in leaves)
    flags = [x.name for x in leaves if x.dtype == ir.DataType.BOOL and not x.dims and x.source not in known]
    for leaf in leaves:
        if leaf.source is not None and leaf.source in fixed:
            feeds[leaf.name] = fixed[leaf.source]
            continue
        integral = not leaf.dtype.is_floating_point()
        if leaf.source is not None and leaf.source in known and (integral or variant == "normal"):
            value = known[leaf.source]
            feeds[leaf.name] = value % leaf.below if integral and leaf.below else value
            continue
        shape = _shape(leaf, binding.sizes)
        room -= prod(shape)
        if room < 0:
            raise Undecided(TOO_LARGE)
        if leaf.name in flags:  # in turn all that they can be together
            feeds[leaf.name] = np.asarray(seed >> flags.index(leaf.name) & 1 == 1)
            continue
        if integral:
            feeds[leaf.name] = _integers(leaf, shape, call, rng, points)
            continue
        group = points.floats[min(call.group, len(points.floats) - 1)]
        feeds[leaf.name] = made = free_floats(shape, leaf, variant, rng, group, call.turn)
        if variant == "not finite" and has_flags and made.size:
            made.reshape(-1)[0] = np.nan  # in the row that sees nothing
    return feeds


def _integers(
    leaf: Leaf, shape: tuple[int, ...], call: Call, rng: np.random.Generator, points: Points
) -> np.ndarray:
    sizes = call.binding.sizes
    if leaf.declared is not None and call.variant == "normal" and shape == (len(leaf.declared),):
        meant = [size_of(dim, sizes) for dim in leaf.declared]
        if None not in meant:
            return np.asarray(meant, leaf.dtype.numpy())
    mode = call.integers if call.alone in (None, leaf.name) else "places"
    places = min((s for d in leaf.picks if (s := size_of(d, sizes))), default=None)
    made = free_integers(
        shape,
        leaf,
        mode,
        rng,
        points,
        call.turn,
        bound=call.below,
        places=places,
        numerals=call.variant == "zeros",
    )
    if call.variant not in ("normal", "points") and shape and not leaf.dtype.is_string():
        made[:1] = 0  # of a mask, a row that sees nothing
    return made


def adapted(
    given: Sequence[Leaf], call: Call, adapters: Sequence[Adapter], points: Points, seed: int
) -> dict[str, np.ndarray]:
    """Free values for the inputs of the model before an edit, and what the last of `adapters` makes of them.

    Empty where nothing is `given`. Raises `Undecided` as `feeds_of` does, and where the adapter fails.
    """
    if not given:
        return {}
    old = feeds_of(given, call, adapters[:-1], points, seed)
    try:
        return old | adapters[-1].feeds(old)
    except Exception as error:
        raise Undecided(f"its adapter fails: {type(error).__name__}: {error}") from error


def shapes_of(leaves: Sequence[Leaf], binding: Binding) -> list[tuple[int, ...]] | None:
    """The shapes of what a call takes; None where a size is unknown."""
    try:
        return [_shape(leaf, binding.sizes) for leaf in leaves]
    except Undecided:
        return None


def _shape(leaf: Leaf, sizes: Mapping[str, int]) -> tuple[int, ...]:
    if leaf.dims is None:
        raise Undecided("the rank of one of its values is unknown")
    shape = []
    for dim in leaf.dims:
        size = size_of(dim, sizes)
        if size is None:
            raise Undecided(f"a size of one of its values is unknown{f' ({dim})' if dim else ''}")
        if size == 0 and isinstance(dim, str) and _DIFFERENCE_DIVIDED.search(dim):
            raise Undecided(f"the size {dim} is below where the formula holds")
        shape.append(size)
    return tuple(shape)


def most_steps(loops: Iterable[Dim], binding: Binding) -> int:
    """Of loops that run so often, how often the longest does; 1 where that is not known."""
    return max((size_of(dim, binding.sizes) or 1 for dim in loops), default=1)


def size_of(dim: Dim, sizes: Mapping[str, int]) -> int | None:
    """What `dim` is at these sizes: a number, one of them, or a formula of several."""
    if not isinstance(dim, str):
        return dim
    if dim in sizes or not _symbols(dim) <= sizes.keys():
        return sizes.get(dim)
    return _evaluated(dim, tuple((name, sizes[name]) for name in sorted(_symbols(dim))))


def implied(sizes: Mapping[str, int]) -> dict[str, int]:
    """`sizes`, and those that are zero because a multiple of theirs is."""
    found = dict(sizes)
    for name, size in sizes.items():
        symbols = _symbols(name)
        if size == 0 and len(symbols) == 1 and name not in symbols:
            (symbol,) = symbols
            if all(_evaluated(name, ((symbol, count),)) for count in range(1, _MULTIPLES)):
                found.setdefault(symbol, 0)
    return found


@lru_cache(4096)
def _evaluated(dim: str, sizes: tuple[tuple[str, int], ...]) -> int | None:
    found = ir.SymbolicDim(dim).evaluate(dict(sizes))
    return found if isinstance(found, int) and found >= 0 else None


def valid_part(dims: tuple[Dim, ...] | None, binding: Binding) -> np.ndarray | None:
    """A mask, to broadcast to a value of `dims`, of what is specified of it; None is all."""
    found: np.ndarray | None = None
    for names, mask in binding.valid.items():
        if dims is None or not set(names) <= set(dims):
            continue
        axes = [dims.index(name) for name in names]
        order = np.argsort(axes)
        shape = [1] * len(dims)
        for axis, size in zip(axes, mask.shape, strict=True):
            shape[axis] = size
        spread = mask.transpose(order).reshape(shape)
        found = spread if found is None else found & spread
    return found
