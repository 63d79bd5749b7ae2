"""Rotary tables, found by running the part of the graph that makes them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphopt.ir import evaluate, extract
from graphopt.pipeline import Context

__all__ = ["Tables", "rotary_tables"]

_POSITIONS = "position_ids"
_LAST_BITS = 1e-6  # a vector kernel and its scalar remainder round differently


@dataclass(frozen=True)
class Tables:
    """cos and sin, float32[positions, rotated size], and the input the rows are chosen by."""

    cos: np.ndarray
    sin: np.ndarray
    positions: ir.Value


def rotary_tables(cos: ir.Value, sin: ir.Value, graph: ir.Graph, context: Context) -> Tables | str:
    """The tables behind `cos` and `sin`, values that depend on position_ids int64[batch, sequence] alone.

    They are read off at positions 0..max_position_embeddings - 1, and checked against the graph at random
    positions of several shapes: a table that depends on the length or on neighbours is refused.
    """
    positions = next((v for v in graph.inputs if v.name == _POSITIONS), None)
    count = context.config.get("max_position_embeddings")
    if positions is None or not isinstance(count, int):
        return "the model has no position_ids input, or its longest position is not known"
    try:
        piece = extract(graph, [cos, sin])
    except ValueError as error:
        return str(error)
    if [v.name for v in piece.graph.inputs if v.name not in piece.graph.initializers] != [_POSITIONS]:
        return "cos and sin depend on more than the positions"
    table = [_rows(v) for v in evaluate(piece, {_POSITIONS: np.arange(count, dtype=np.int64)[None]})]
    if any(t.shape[0] != count for t in table):
        return "cos and sin are not one row a position"
    rng = np.random.default_rng(0)
    for shape in ((1, 1), (1, 3), (2, 5), (3, 7)):
        ids = rng.integers(0, count, shape)
        for expected, got in zip(table, evaluate(piece, {_POSITIONS: ids}), strict=True):
            if not np.allclose(_rows(got), expected[ids.reshape(-1)], rtol=0, atol=_LAST_BITS):
                return "a row of cos or sin is not a function of its position alone"
    return Tables(table[0], table[1], positions)


def _rows(value: np.ndarray) -> np.ndarray:
    return value.reshape(-1, value.shape[-1]).astype(np.float32)
