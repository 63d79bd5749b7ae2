"""What windows are fed with: legal masks, positions and lengths, and free numbers for everything else."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from types import MappingProxyType
from typing import TYPE_CHECKING

import ml_dtypes
import numpy as np
import onnx_ir as ir

from graphopt.verify._text import made_up_text
from graphopt.verify._window import Dim, Leaf

if TYPE_CHECKING:
    from graphopt.families import Case, InputDomain, Interface
    from graphopt.pipeline import Adapter

__all__ = [
    "VARIANTS",
    "Binding",
    "Undecided",
    "adapted",
    "beyond",
    "elements",
    "feeds_of",
    "independent",
    "integer_bounds",
    "legal_bindings",
    "longer_bindings",
    "most_steps",
    "of_case",
    "unknown_bindings",
    "valid_part",
]

Arrays = dict[str, np.ndarray]

_PRIMES = (7, 5, 3, 11, 13)
_LONG, _LONGEST, _AXES = 37, 4096, 6
_ELEMENTS = 1 << 26
_LARGE, _HUGE, _SMALL = 1e4, 1e10, 1e-3
_COMPLEX = (ir.DataType.COMPLEX64, ir.DataType.COMPLEX128)
_FLAGS, _WIDE = 2, 1 << 40
VARIANTS = ("normal", "zeros", "small", "large", "not finite")
"""Kinds of free values: normally distributed, all zero, all small, a few large, a few NaN or infinite."""


class Undecided(Exception):
    """Why a window cannot be fed."""


@dataclass(frozen=True)
class Binding:
    """One call of the whole model: sizes by dimension name, values by graph input.

    `valid` says, for names of dimensions, which of their places are specified: padding is not. `case` is the
    family's call that it stands for, None where it is a guess.
    """

    name: str
    sizes: Mapping[str, int]
    feeds: Mapping[str, np.ndarray]
    valid: Mapping[tuple[str, ...], np.ndarray] = field(default_factory=dict)
    case: Case | None = None


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


def beyond(constants: Sequence[int]) -> int:
    """A size that exceeds all of the `constants` that may be one."""
    return 1 + max((n for n in constants if n <= _LONGEST), default=0)


def longer_bindings(domain: InputDomain, interface: Interface, length: int, seed: int) -> list[Binding]:
    """The family's legal calls with `length` positions."""
    return [of_case(case, interface) for case in domain.longer(np.random.default_rng(seed), length)]


def unknown_bindings(
    names: Sequence[str], arrays: Mapping[str, np.ndarray], given: Mapping[str, Sequence[int]], length: int
) -> list[Binding]:
    """Guesses for a graph of unknown meaning: each dimension 1, then primes, then one after the other long.

    `length` is how long at least. `given` sizes and `arrays` are used where the user said what is legal.
    """

    primes = {name: _PRIMES[i % len(_PRIMES)] for i, name in enumerate(names)}
    made = [
        Binding("each 1", dict.fromkeys(names, 1), arrays),
        Binding("primes", primes, arrays),
        Binding("all alike", dict.fromkeys(names, 7), arrays),
        *(Binding(f"long {name}", primes | {name: max(length, _LONG)}, arrays) for name in names[:_AXES]),
    ]
    if given:
        count = max(map(len, given.values()))
        chosen = [{n: v[i % len(v)] for n, v in given.items()} for i in range(count)]
        made = [
            Binding(f"given {i + 1}", dict(b.sizes) | c, arrays)
            for i, c in enumerate(chosen)
            for b in made[:2]
        ]
    return made


def independent(dims: Iterable[str]) -> list[str]:
    """Those of `dims` that do not follow from others of them, as `batch*sequence` does from both."""
    names = set(dims)
    return sorted(name for name in names if not _symbols(name) <= names - {name})


def _symbols(dim: str) -> frozenset[str]:
    try:
        return ir.SymbolicDim(dim).free_symbols()
    except ValueError:  # a name that is no formula
        return frozenset([dim])


def integer_bounds(leaves: Sequence[Leaf], binding: Binding) -> list[int]:
    """Bounds of free integers worth trying: each size that they may choose among, and what needs 64 bits.

    Not every one is legal everywhere; the original says so.
    """
    sizes = {_size(d, binding.sizes) for leaf in leaves for d in leaf.dims or ()}
    return [*sorted(s for s in sizes if s is not None and s > _FLAGS)[:_AXES], _WIDE]


def feeds_of(
    leaves: Sequence[Leaf],
    binding: Binding,
    adapters: Sequence[Adapter],
    variant: str,
    seed: int,
    below: int = _FLAGS,
    fixed: Mapping[str, np.ndarray] = MappingProxyType({}),
) -> Arrays:
    """An array for every leaf; free integers are `below` a bound, and negative too where it is a wide one.

    Leaves whose source is in `fixed` are what it says. Raises `Undecided` where a size or legal value is
    unknown, or too large.
    """
    rng = np.random.default_rng(seed)
    known = dict(binding.feeds)
    for adapter in adapters:
        with contextlib.suppress(KeyError):  # a guess has not all that it takes
            known = adapter.feeds(known)
    feeds: Arrays = {}
    room = _ELEMENTS
    has_flags = any(not leaf.dtype.is_floating_point() and leaf.source not in known for leaf in leaves)
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
            raise Undecided("its values are too large to run")
        feeds[leaf.name] = made = _free(shape, leaf, variant, rng, below)
        if variant == "not finite" and has_flags and made.size and leaf.dtype.is_floating_point():
            made.reshape(-1)[0] = np.nan  # in the row that sees nothing
    return feeds


def adapted(
    given: Sequence[Leaf],
    binding: Binding,
    adapters: Sequence[Adapter],
    variant: str,
    seed: int,
    below: int,
) -> Arrays:
    """Free values for the inputs of the model before an edit, and what the last of `adapters` makes of them.

    Empty where nothing is `given`. Raises `Undecided` as `feeds_of` does, and where the adapter fails.
    """
    if not given:
        return {}
    old = feeds_of(given, binding, adapters[:-1], variant, seed, below)
    try:
        return old | adapters[-1].feeds(old)
    except Exception as error:
        raise Undecided(f"its adapter fails: {type(error).__name__}: {error}") from error


def elements(leaves: Sequence[Leaf], binding: Binding) -> int | None:
    """How many numbers a call takes; None where a size is unknown."""
    try:
        return sum(prod(_shape(leaf, binding.sizes)) for leaf in leaves)
    except Undecided:
        return None


def _shape(leaf: Leaf, sizes: Mapping[str, int]) -> tuple[int, ...]:
    if leaf.dims is None:
        raise Undecided("the rank of one of its values is unknown")
    shape = []
    for dim in leaf.dims:
        size = _size(dim, sizes)
        if size is None:
            raise Undecided(f"a size of one of its values is unknown{f' ({dim})' if dim else ''}")
        shape.append(size)
    return tuple(shape)


def most_steps(loops: Iterable[Dim], binding: Binding) -> int:
    """Of loops that run so often, how often the longest does; 1 where that is not known."""
    return max((_size(dim, binding.sizes) or 1 for dim in loops), default=1)


def _size(dim: Dim, sizes: Mapping[str, int]) -> int | None:
    """What `dim` is at these sizes: a number, one of them, or a formula of several."""
    if not isinstance(dim, str):
        return dim
    if dim in sizes or not _symbols(dim) <= sizes.keys():
        return sizes.get(dim)
    found = ir.SymbolicDim(dim).evaluate(sizes)
    return found if isinstance(found, int) and found >= 0 else None


def _free(
    shape: tuple[int, ...], leaf: Leaf, variant: str, rng: np.random.Generator, below: int
) -> np.ndarray:
    kind = leaf.dtype.numpy()
    if leaf.dtype == ir.DataType.STRING:
        return made_up_text(shape, leaf.words, rng, numerals=variant == "zeros")
    if leaf.dtype in _COMPLEX:
        return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(kind)
    if not leaf.dtype.is_floating_point():
        low, high = (-below if below == _WIDE else 0), below
        if leaf.dtype != ir.DataType.BOOL:
            limits = ml_dtypes.iinfo(kind)  # type: ignore[no-untyped-call]
            low, high = max(low, int(limits.min) // 4), min(high, int(limits.max))
        numbers = rng.integers(low, min(high, _FLAGS) if leaf.dtype == ir.DataType.BOOL else high, shape)
        if variant != "normal" and shape:
            numbers[:1] = 0  # of a mask, a row that sees nothing
        return numbers.astype(kind)
    values = rng.standard_normal(shape)
    if leaf.within is not None:
        most = leaf.within.array()
        bounded = np.isfinite(most)
        return np.where(bounded, rng.uniform(-1, 1, shape) * np.where(bounded, most, 0), values).astype(kind)
    if variant == "zeros":
        values[...] = 0
    if variant == "small":
        values *= _SMALL
    flat = values.reshape(-1)
    if variant == "large" and flat.size:
        beyond_int32 = _HUGE if leaf.dtype.bitwidth >= 32 else _LARGE / 3
        flat[rng.integers(0, flat.size, 3)] = (_LARGE, -_LARGE, beyond_int32)
    if variant == "not finite" and flat.size:
        flat[rng.integers(0, flat.size, 3)] = (np.nan, np.inf, -np.inf)
    return values.astype(kind)


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
