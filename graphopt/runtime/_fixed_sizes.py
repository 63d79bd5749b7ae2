"""A graph that was compiled for one size of each dimension, on calls of others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphopt.interface import Interface, TensorSpec
from graphopt.runtime._worker import RuntimeRefused

__all__ = ["FixedSizes"]

MASK = "attention_mask"
Array = NDArray[Any]
Run = Callable[[Mapping[str, Array]], Mapping[str, Array]]


class FixedSizes:
    """Runs calls of any sizes on a graph of fixed ones, by padding.

    `sizes` are those that the graph was compiled for, by dimension of `interface`. Texts, which have an
    `attention_mask` [batch, sequence], are padded on their right with zeros, which the mask hides; where the
    batch is the first dimension of all, it runs in calls of so many rows, of which the last is repeated where
    there are too few. Results have the shapes that they would have had. Any other difference, and what is
    longer than the graph's, is `RuntimeRefused`: whether rows stand alone is not known.
    """

    def __init__(self, sizes: Mapping[str, int], interface: Interface) -> None:
        self._sizes, self._interface = sizes, interface
        specs = (*interface.inputs, *interface.outputs)
        mask = interface.input(MASK)
        batch, self._sequence = mask.dims if mask is not None and len(mask.dims) == 2 else (None, None)
        self._batch = batch if all(spec.dims[:1] == (batch,) for spec in specs) else None

    def run(self, feeds: Mapping[str, Array], run: Run) -> dict[str, Array]:
        """The results of `run` on `feeds`, which are those of the interface."""
        here = self._sizes_of(feeds)
        different = {name for name, size in here.items() if self._sizes.get(name, size) != size}
        if not different:
            return dict(run(feeds))
        for name in different - {self._batch, self._sequence}:
            raise RuntimeRefused(f"it was compiled for {name} = {self._sizes[name]}, not {here[name]}")
        if not all(here.values()):
            raise RuntimeRefused("a size is 0")
        if self._sequence in different and here[str(self._sequence)] > self._sizes[str(self._sequence)]:
            most = self._sizes[str(self._sequence)]
            raise RuntimeRefused(
                f"it was compiled for {self._sequence} = {most} at most, not {here[str(self._sequence)]}"
            )
        feeds = {spec.name: self._padded(spec, feeds[spec.name]) for spec in self._interface.inputs}
        if self._batch not in different:
            return self._cut(run(feeds), here)
        rows = self._sizes[str(self._batch)]
        calls = [
            self._cut(run({name: _rows(array, start, rows) for name, array in feeds.items()}), here)
            for start in range(0, here[str(self._batch)], rows)
        ]
        return {
            name: np.concatenate([call[name] for call in calls])[: here[str(self._batch)]]
            for name in calls[0]
        }

    def _sizes_of(self, feeds: Mapping[str, Array]) -> dict[str, int]:
        return {
            dim: size
            for spec in self._interface.inputs
            for dim, size in zip(spec.dims, feeds[spec.name].shape, strict=True)
            if isinstance(dim, str)
        }

    def _padded(self, spec: TensorSpec, array: Array) -> Array:
        missing = [
            self._sizes[str(dim)] - size if dim == self._sequence and dim in self._sizes else 0
            for dim, size in zip(spec.dims, array.shape, strict=True)
        ]
        return np.pad(array, [(0, count) for count in missing]) if any(missing) else array

    def _cut(self, results: Mapping[str, Array], here: Mapping[str, int]) -> dict[str, Array]:
        """Without what was computed for padding."""
        dims = {spec.name: spec.dims for spec in self._interface.outputs}
        return {
            name: array[
                tuple(slice(here[dim] if dim == self._sequence else None) for dim in map(str, dims[name]))
            ]
            for name, array in results.items()
        }


def _rows(array: Array, start: int, count: int) -> Array:
    """So many rows from `start` on, the last one again where there are fewer."""
    return np.ascontiguousarray(array[np.minimum(np.arange(start, start + count), len(array) - 1)])
