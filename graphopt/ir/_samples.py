"""Running a few nodes on a made-up value, to see what they do whatever their spelling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from graphopt.ir._evaluate import evaluate, extract

__all__ = ["run_from", "sample_of"]

Array = np.ndarray[Any, Any]
_FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


def sample_of(x: ir.Value) -> Array | None:
    """A random array like `x`, sizes that vary made up; None where its last one varies or it is no float."""
    if x.shape is None or x.dtype not in _FLOATS or not isinstance(x.shape[-1], int):
        return None
    dims = [d if isinstance(d, int) else 2 + axis for axis, d in enumerate(x.shape)]
    return np.random.default_rng(0).standard_normal(dims).astype(x.dtype.numpy())


def run_from(x: ir.Value, sample: Array, values: Sequence[ir.Value]) -> list[Array] | None:
    """`values` where x is `sample`; None if they need more than x, or x of other sizes."""
    graph = values[0].graph
    assert isinstance(graph, ir.Graph)
    piece = extract(graph, values, cut=[x])
    if [v.name for v in piece.graph.inputs if v.name not in piece.graph.initializers] != [x.name]:
        return None
    try:
        return evaluate(piece, {x.name or "": sample})
    except Exception:  # onnxruntime has a class for each of its errors, with no common one
        return None
