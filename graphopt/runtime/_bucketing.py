"""Length bucketing: a batch of texts in calls of about one length, small enough for the processor's cache."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from graphopt.interface import Arrays, Interface, Model, TensorSpec

__all__ = ["LengthBucketing", "has_rows", "measured_batch_tokens"]

MASK = "attention_mask"
CALL_OVERHEAD = 16
"""What a call costs beside its tokens, in tokens."""
SIZES = (512, 1024, 2048, 4096)
"""Tokens a call that are tried."""
ALIKE = 1.03
"""What is not slower than this is as fast: such differences are noise, and fewer tokens take less memory."""
ROUNDS = 4
"""How often each size is timed: the least of four is seldom a disturbed one, and a large call takes long."""


class _Dims(NamedTuple):
    batch: int | str | None
    sequence: int | str | None


def has_rows(interface: Interface) -> bool:
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


class LengthBucketing:
    """A text encoder that runs a batch in several calls, each of rows of about one length and few tokens.

    A row is cut after its last position that is not masked. `model` must give the same for a row whatever
    other rows and padding on its right are beside it; `interface`, which describes it, must be one that
    `has_rows`. Results have the shapes they would have had; positions that were not computed are zero.
    The split is the cheapest one where a call costs as much as `call_overhead` tokens, and has at most
    `max_batch_tokens` (0: any number): what passes between the operators of a large call falls out of the
    processor's cache.
    """

    def __init__(
        self, model: Model, interface: Interface, *, max_batch_tokens: int, call_overhead: int = CALL_OVERHEAD
    ) -> None:
        dims = _dims(interface)
        assert dims is not None
        self._model = model
        self._max_batch_tokens = max_batch_tokens
        self._call_overhead = call_overhead
        self._dims = dims
        self._inputs = {spec.name: spec for spec in interface.inputs}
        self._axis = {s.name: _axis(s, dims) for s in (*interface.inputs, *interface.outputs)}

    def __call__(self, feeds: Arrays) -> Mapping[str, NDArray[Any]]:
        arrays = {name: np.asarray(array) for name, array in feeds.items()}
        mask = arrays.get(MASK, np.empty(0))
        if mask.ndim != 2 or mask.size == 0 or not self._agree(arrays, mask.shape):
            return self._model(feeds)
        calls = split(_lengths(mask), self._max_batch_tokens, self._call_overhead)
        if len(calls) == 1 and calls[0][1] == mask.shape[1]:
            return self._model(feeds)
        results: dict[str, NDArray[Any]] = {}
        for rows, length in calls:
            cut = {name: self._cut(name, array, rows, length) for name, array in arrays.items()}
            for name, array in self._model(cut).items():
                if name not in results:
                    results[name] = np.zeros(self._shape(name, array, mask.shape), array.dtype)
                results[name][self._place(name, array, rows, length)] = array
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

    def _shape(self, name: str, array: NDArray[Any], shape: tuple[int, ...]) -> tuple[int, ...]:
        axis = self._axis[name]
        return shape[0], *(shape[1] if axis == i else size for i, size in enumerate(array.shape) if i)


def _axis(spec: TensorSpec, dims: _Dims) -> int | None:
    """Which axis of it is the sequence; None where none is."""
    return spec.dims.index(dims.sequence) if dims.sequence in spec.dims else None


def _lengths(mask: NDArray[Any]) -> NDArray[np.int64]:
    """Of each row, up to its last position that is not masked; the whole width where all are."""
    real = mask != 0
    length = mask.shape[1] - real[:, ::-1].argmax(1)
    found: NDArray[np.int64] = np.where(real.any(1), length, mask.shape[1])
    return found


def split(lengths: NDArray[np.int64], tokens: int, call_overhead: int) -> list[tuple[NDArray[np.int64], int]]:
    """The cheapest calls that between them run every row: which rows, and how long the longest is.

    A call costs its rows times its longest, and `call_overhead`; it has at most `tokens` tokens, or one row.
    """
    distinct, counts = np.unique(lengths, return_counts=True)
    until = np.concatenate([[0], counts.cumsum()])
    best = np.zeros(len(distinct) + 1)
    start = np.zeros(len(distinct) + 1, np.int64)
    for end, length in enumerate(distinct, 1):
        rows = until[end] - until[:end]
        costs = best[:end] + rows * length + call_overhead * _calls(rows, length, tokens)
        start[end] = costs.argmin()
        best[end] = costs[start[end]]
    order = np.argsort(lengths, kind="stable")
    found: list[tuple[NDArray[np.int64], int]] = []
    end = len(distinct)
    while end:
        rows, length = order[until[start[end]] : until[end]], int(distinct[end - 1])
        found += [(part, length) for part in np.array_split(rows, _calls(len(rows), length, tokens))]
        end = int(start[end])
    return found[::-1]


def _calls(rows: Any, length: int, tokens: int) -> Any:
    """How many calls of at most `tokens` tokens take `rows` rows."""
    return -(-rows // (max(1, tokens // length) if tokens else rows))


def measured_batch_tokens(model: Model, feeds: Arrays, sizes: Iterable[int] = SIZES) -> int:
    """How many tokens a call of `model` best has: the fewest that are within 3 % of the fastest a token.

    `feeds` are a call of one text, which is repeated. The sizes take turns, and their best times count.
    """
    length = int(np.asarray(feeds[MASK]).shape[1])
    rows = {size: size // length for size in sizes if size >= length}
    found = dict.fromkeys(rows, np.inf)
    for _ in range(ROUNDS):
        for size, count in rows.items():
            batch = {name: np.repeat(array, count, 0) for name, array in feeds.items()}
            started = time.perf_counter()
            model(batch)
            found[size] = min(found[size], (time.perf_counter() - started) / count)
    return min((size for size in found if found[size] <= ALIKE * min(found.values())), default=0)
