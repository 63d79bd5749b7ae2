"""Rules about weights that take more bytes than they hold."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import numpy as np
import onnx_ir as ir

from graphopt.ir import has_data, lazy, stored_bytes
from graphopt.lint import Finding, Subject, edits_of, rule

_LARGE = 1 << 20
"""Bytes from which a constant is worth a word. A judgement: a page cache does not notice less."""


@rule("GO501", "stored-twice", "warning", mends=["tie-weights"])
def stored_twice(subject: Subject) -> Iterator[Finding]:
    """Two weights hold the same numbers.

    The file and the memory hold both, and a processor's cache one of them at a time. Exporters that fold a
    Transpose into a tied embedding, or untie it, leave such pairs.

    Let `--fix` store one.
    """
    for graph in subject.graphs:
        known = graph.model.graph.initializers
        for edit in edits_of(graph, "tie-weights"):
            value = known.get(edit.summary.partition(" is ")[0])
            if value is not None and value.const_value is not None:
                size = stored_bytes(value.const_value)
                if size >= _LARGE:
                    yield Finding(graph.file, value.name or "", f"{edit.summary}: {size:,} bytes twice")


@rule("GO502", "folded-expansion", "warning")
def folded_expansion(subject: Subject) -> Iterator[Finding]:
    """A constant is one piece, repeated: folding has written out what broadcasting would do.

    A mask of 4,096 x 4,096 places for 32 heads takes 2 GiB in float32, where 64 MiB say the same. The file,
    the time to load it and the memory grow by that.

    Fold constants under a limit of bytes, or store the piece: operators that work element by element
    broadcast it.
    """
    for graph in subject.graphs:
        for value in graph.model.graph.initializers.values():
            tensor = value.const_value
            if tensor is None or not has_data(tensor) or stored_bytes(tensor) < _LARGE:
                continue
            axis = _repeated_axis(tensor)
            if axis is not None:
                times = tensor.shape.numpy()[axis]
                text = f"{stored_bytes(tensor):,} bytes, the same {times} times along axis {axis}"
                yield Finding(graph.file, value.name or "", text)


def _repeated_axis(tensor: ir.TensorProtocol) -> int | None:
    """An axis along which all that `tensor` holds is the same. Its first two slices are read first."""
    shape = tuple(int(size) for size in tensor.shape.numpy())
    expr = lazy(tensor)
    if tensor.dtype.bitwidth < 8 or tensor.dtype == ir.DataType.STRING:
        return None

    def slices(axis: int, start: int, stop: int) -> np.ndarray:
        region = [slice(0, size) for size in shape]
        region[axis] = slice(start, stop)
        return expr.read(tuple(region))

    for axis, size in enumerate(shape):
        if size < 2 or prod(shape) == size:
            continue
        first = slices(axis, 0, 1)
        if all(np.array_equal(first, slices(axis, at, at + 1)) for at in range(1, size)):
            return axis
    return None


WEIGHTS = (stored_twice, folded_expansion)
