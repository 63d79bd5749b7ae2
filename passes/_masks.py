"""What an attention mask means, found by running the part of the graph that makes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import onnx_ir as ir

from graphopt.ir import evaluate, extract
from graphopt.pipeline import Context

__all__ = ["allows_future", "masks_whole_rows"]


def allows_future(mask: ir.Value, graph: ir.Graph, context: Context) -> bool:
    """Whether some query may attend to a key after its own place, in any case of the input domain.

    True also where nothing is known about legal inputs.
    """

    def found() -> bool:
        if context.domain is None:
            return True
        return any(
            np.triu(_allowed(value), k=value.shape[-1] - value.shape[-2] + 1).any()
            for (value,) in _values([mask], graph, context)
        )

    return _once(("allows-future", mask), found, context)


def masks_whole_rows(condition: ir.Value, mask: ir.Value, graph: ir.Graph, context: Context) -> bool:
    """Whether `condition` is true just for those queries that `mask` lets attend to nothing, in every case."""

    def found() -> bool:
        return context.domain is not None and all(
            np.array_equal(np.broadcast_to(rows, (*value.shape[:-1], 1)), ~_allowed(value).any(-1, keepdims=True))
            for rows, value in _values([condition, mask], graph, context)
        )

    return _once(("masks-whole-rows", condition, mask), found, context)


def _values(values: list[ir.Value], graph: ir.Graph, context: Context) -> Iterator[list[np.ndarray]]:
    assert context.domain is not None
    piece = extract(graph, values)
    for case in context.domain.cases(np.random.default_rng(0)):
        yield evaluate(piece, case.feeds)


def _allowed(mask: np.ndarray) -> np.ndarray:
    """True where a query may attend: of a bool mask itself, of an additive one where it does not forbid."""
    return mask if mask.dtype == np.bool_ else mask > np.finfo(mask.dtype).min / 2


def _once(key: tuple[object, ...], find: Callable[[], bool], context: Context) -> bool:
    if key not in context.memo:
        context.memo[key] = find()
    return bool(context.memo[key])
