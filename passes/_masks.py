"""Whether a condition on an attention's rows says what its mask already says, found by running both."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from graphopt.ir import evaluate, extract
from graphopt.pipeline import Context

__all__ = ["masks_whole_rows"]


def masks_whole_rows(condition: ir.Value, mask: ir.Value, context: Context) -> bool:
    """Whether `condition` is true just for those queries that `mask` lets attend to nothing.

    Both are run in every case of the input domain; False where nothing is known about legal inputs.
    """
    key = ("masks-whole-rows", condition, mask)
    if key not in context.memo:
        context.memo[key] = _agree(condition, mask, context)
    return bool(context.memo[key])


def _agree(condition: ir.Value, mask: ir.Value, context: Context) -> bool:
    if context.domain is None:
        return False
    try:
        piece = extract(context.model.graph, [condition, mask])
    except ValueError:
        return False
    for case in context.domain.cases(np.random.default_rng(0)):
        rows, value = evaluate(piece, case.feeds)
        nothing = ~_allowed(value).any(-1, keepdims=True)
        if not np.array_equal(np.broadcast_to(rows, nothing.shape), nothing):
            return False
    return True


def _allowed(mask: np.ndarray) -> np.ndarray:
    """True where a query may attend: of a bool mask itself, of an additive one where it does not forbid."""
    return mask if mask.dtype == np.bool_ else mask > np.finfo(mask.dtype).min / 2
