"""Running graphs as they stand, and inputs to run them on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from graphopt.ir import to_proto

if TYPE_CHECKING:
    import onnxruntime as ort

__all__ = ["Array", "outputs", "seeded_feeds", "session"]

Array = NDArray[Any]
_LONGEST = 8
"""Bound of made-up integers: they may be indices or sizes, and examples are small."""


def session(model: ir.Model) -> ort.InferenceSession:
    """A session of `model` on the CPU with one thread and none of the runtime's own optimizations."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    return ort.InferenceSession(
        to_proto(model).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def outputs(made: ort.InferenceSession, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Every output of the session by name."""
    names = [output.name for output in made.get_outputs()]
    return dict(zip(names, made.run(names, dict(feeds)), strict=True))


def seeded_feeds(model: ir.Model, sizes: Mapping[str, int], seed: int = 0) -> dict[str, Array]:
    """An array for each input of `model` that has no default.

    `sizes` gives named dimensions, and as `?` unnamed ones. Floats are normal; of integers and bools,
    `attention_mask` is all ones, `position_ids` is below 8, and others are zeros and ones. `KeyError` for a
    name that `sizes` lacks.
    """
    rng = np.random.default_rng(seed)
    feeds: dict[str, Array] = {}
    for value in model.graph.inputs:
        if value.name in model.graph.initializers:
            continue
        assert value.name is not None
        assert value.shape is not None
        assert value.dtype is not None
        dims = [d if isinstance(d, int) else sizes[d.value or "?"] for d in value.shape]
        feeds[value.name] = _array(value.name, value.dtype.numpy(), dims, rng)
    return feeds


def _array(name: str, dtype: np.dtype[Any], dims: list[int], rng: np.random.Generator) -> Array:
    if name == "attention_mask":
        return np.ones(dims, dtype)
    if name == "position_ids":
        return rng.integers(0, _LONGEST, dims).astype(dtype)
    if np.issubdtype(dtype, np.integer) or dtype == np.bool_:
        return rng.integers(0, 2, dims).astype(dtype)
    return rng.standard_normal(dims).astype(dtype)
