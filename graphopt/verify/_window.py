"""The piece of a graph that an edit rewrites, as two models that can be run side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from graphopt.interface import Dim
from graphopt.ir import Expr

__all__ = ["Dim", "Leaf", "Piece", "Weight", "Window", "Within", "dims_of"]


@dataclass(frozen=True)
class Leaf:
    """A value that a window takes from outside: `name` in its models, `source` if an integral graph input, or
    any that an adapter has a say in.

    `dims` are sizes and names of what varies; None where the rank is unknown. Integers are `below` a bound
    if there is one, because they choose among as many rows. Floats stay `within` magnitudes if there are any.
    Text is drawn from the `words` that the window holds, too.
    What it is for, if integral: it `picks` places of axes of these sizes, it `divides`, or it `sizes`
    something, a value with `declared` dims if those are known. `anything`: nothing before it limits what it
    may hold.
    """

    name: str
    source: str | None
    dtype: ir.DataType
    dims: tuple[Dim, ...] | None
    below: int | None = None
    within: Within | None = None
    words: tuple[str, ...] = ()
    picks: tuple[Dim, ...] = ()
    divides: bool = False
    sizes: bool = False
    declared: tuple[Dim, ...] | None = None
    anything: bool = field(default=False, repr=False)


@dataclass(frozen=True)
class Within:
    """Largest magnitudes, row by row, of an array of this shape that broadcasts to the values it is for."""

    shape: tuple[int, ...]
    values: tuple[float, ...]

    @classmethod
    def of(cls, array: np.ndarray) -> Within:
        return cls(array.shape, tuple(map(float, array.reshape(-1))))

    def array(self) -> np.ndarray:
        return np.asarray(self.values).reshape(self.shape)


@dataclass(frozen=True)
class Weight:
    """A weight of a piece; `fed` if it may be an input instead, which saves a copy."""

    expr: Expr
    fed: bool


@dataclass(frozen=True)
class Piece:
    """One side of a window: a serialized model without its larger weights, and these by name."""

    model: bytes
    weights: Mapping[str, Weight]


@dataclass(frozen=True)
class Window:
    """What an edit takes away and what it puts there, as functions of the same leaves.

    `outputs` are the dims of the values that must agree, in order; both models call them y0, y1, …. `key` is
    equal for windows that differ only in which weights of the source they use; `by_content` says that what
    some of them hold counts too. `lengths` are integers at which something may happen along an axis, with the
    axis' name where it is known; the rows of new tables are among them. `numbers` are those that values are
    compared or computed with, and `steps` those that values are rounded to. `longest` is the longest sum in
    them; a loop that the edit takes away adds up so many terms in each step, and `loops` are the numbers of
    steps. `adds_up`: one value may be made of many. `values`: dims and bytes an element of all that is
    computed. `closed`: all leaves are inputs of the model, so that what it is fed with is a call of the whole
    model. `given` are the model's inputs as they are before the edit, where its adapter makes new ones of
    them. `tables` are the lengths of weights that only the replacement has. `samples` are arrays by leaf,
    where the edit's promise is one for these alone.
    """

    before: Piece
    after: Piece
    leaves: tuple[Leaf, ...]
    outputs: tuple[tuple[Dim, ...] | None, ...]
    longest: int
    key: str
    by_content: bool = False
    lengths: tuple[tuple[str | None, int], ...] = ()
    numbers: tuple[float, ...] = ()
    steps: tuple[float, ...] = ()
    adds_up: bool = True
    loops: tuple[Dim, ...] = ()
    values: tuple[tuple[tuple[Dim, ...], float], ...] = ()
    closed: bool = False
    given: tuple[Leaf, ...] = ()
    tables: tuple[int, ...] = ()
    samples: Mapping[str, np.ndarray] | None = None

    @property
    def weight_bytes(self) -> int:
        """What the larger weights of the two pieces take, together."""
        return sum(w.expr.nbytes for piece in (self.before, self.after) for w in piece.weights.values())


def dims_of(value: ir.Value) -> tuple[Dim, ...] | None:
    if value.shape is None:
        return None
    return tuple(d if isinstance(d, int) else d.value for d in value.shape)
