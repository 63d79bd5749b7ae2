"""Batches of texts of unequal length, in groups of about the same length: little padding is computed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from graphopt.families import Interface, TensorSpec

__all__ = ["Ragged", "takes_ragged"]

MASK = "attention_mask"
CALL_TOKENS = 16
"""What a call costs beside its tokens, in tokens: `benchmarks/encoder.py --only calls` measures it."""

Arrays = Mapping[str, NDArray[Any]]
Model = Callable[[Arrays], Mapping[str, NDArray[Any]]]


class _Dims(NamedTuple):
    batch: int | str | None
    sequence: int | str | None


def takes_ragged(interface: Interface) -> bool:
    """Whether `interface` is of texts, one a row: a mask [batch, sequence], and the batch first in all."""
    dims = _dims(interface)
    return dims is not None and all(
        spec.dims[:1] == dims[:1]
        and spec.dims.count(dims.sequence) <= 1
        and all(isinstance(dim, int) or dim == dims.sequence for dim in spec.dims[1:])
        for spec in (*interface.inputs, *interface.outputs)
    )


def _dims(interface: Interface) -> _Dims | None:
    mask = interface.input(MASK)
    if mask is None or len(mask.dims) != 2 or not all(isinstance(dim, str) for dim in mask.dims):
        return None
    return _Dims(*mask.dims)


class Ragged:
    """A text encoder that cuts the rows of a batch to about their own length, the last position not masked.

    `model` must give the same for a row whatever padding is on its right; `interface`, which describes it,
    must be one that `takes_ragged`. Results have the shapes they would have had; positions that were not
    computed are zero. Groups are the cheapest ones where a call costs as much as `call_tokens` tokens.
    """

    def __init__(self, model: Model, interface: Interface, *, call_tokens: int = CALL_TOKENS) -> None:
        dims = _dims(interface)
        assert dims is not None
        self._model = model
        self._call_tokens = call_tokens
        self._dims = dims
        self._inputs = {spec.name: spec for spec in interface.inputs}
        self._axis = {s.name: _axis(s, dims) for s in (*interface.inputs, *interface.outputs)}

    def __call__(self, feeds: Arrays) -> Mapping[str, NDArray[Any]]:
        arrays = {name: np.asarray(array) for name, array in feeds.items()}
        mask = arrays.get(MASK, np.empty(0))
        if mask.ndim != 2 or mask.size == 0 or not self._agree(arrays, mask.shape):
            return self._model(feeds)
        rows, width = mask.shape
        lengths = _lengths(mask)
        longest = groups(lengths, self._call_tokens)
        if longest == [width]:
            return self._model(feeds)
        results: dict[str, NDArray[Any]] = {}
        shortest = 0
        for length in longest:
            chosen = np.flatnonzero((lengths > shortest) & (lengths <= length))
            shortest = length
            cut = {name: self._cut(name, array, chosen, length) for name, array in arrays.items()}
            for name, array in self._model(cut).items():
                if name not in results:
                    results[name] = np.zeros(self._shape(name, array, rows, width), array.dtype)
                results[name][self._place(name, array, chosen, length)] = array
        return results

    def _agree(self, arrays: Arrays, shape: tuple[int, ...]) -> bool:
        """Whether these are inputs of a batch of this shape. If not, `model` says what is wrong with them."""
        sizes = dict(zip(self._dims, shape, strict=True))
        return all(
            name in self._inputs
            and array.shape == tuple(sizes.get(dim, dim) for dim in self._inputs[name].dims)
            for name, array in arrays.items()
        )

    def _cut(self, name: str, array: NDArray[Any], rows: NDArray[Any], length: int) -> NDArray[Any]:
        return np.ascontiguousarray(array[self._place(name, array, rows, length)])

    def _place(self, name: str, array: NDArray[Any], rows: NDArray[Any], length: int) -> tuple[Any, ...]:
        axis = self._axis[name]
        return rows, *(slice(length if axis == i else None) for i in range(1, array.ndim))

    def _shape(self, name: str, array: NDArray[Any], rows: int, width: int) -> tuple[int, ...]:
        axis = self._axis[name]
        return rows, *(width if axis == i else size for i, size in enumerate(array.shape) if i)


def _axis(spec: TensorSpec, dims: _Dims) -> int | None:
    """Which axis of it is the sequence; None where none is."""
    return spec.dims.index(dims.sequence) if dims.sequence in spec.dims else None


def _lengths(mask: NDArray[Any]) -> NDArray[np.int64]:
    """Of each row, up to its last position that is not masked; the whole width where all are."""
    real = mask != 0
    length = mask.shape[1] - real[:, ::-1].argmax(1)
    found: NDArray[np.int64] = np.where(real.any(1), length, mask.shape[1])
    return found


def groups(lengths: NDArray[np.int64], call_tokens: int) -> list[int]:
    """The longest length of each group, ascending, of the split in which calls and tokens cost least."""
    distinct, counts = np.unique(lengths, return_counts=True)
    until = np.concatenate([[0], counts.cumsum()])
    best = np.zeros(len(distinct) + 1)
    start = np.zeros(len(distinct) + 1, np.int64)
    for end, length in enumerate(distinct, 1):
        costs = best[:end] + (until[end] - until[:end]) * length + call_tokens
        start[end] = costs.argmin()
        best[end] = costs[start[end]]
    found, end = [], len(distinct)
    while end:
        found.append(int(distinct[end - 1]))
        end = int(start[end])
    return found[::-1]
