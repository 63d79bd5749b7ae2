"""What raising attention asks about masks, answered by running the part of the graph that makes them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from graphopt.ir import evaluator, extract, same_dim
from graphopt.pipeline import Context, Nodes

__all__ = ["FORBIDDING", "fitted", "floor", "forbids", "masks_whole_rows"]

Array = np.ndarray[Any, Any]
FORBIDDING = -1e4  # BERT's exports add -10000 to hide a key; a softmax leaves e^-10000 = 0 of it


def fitted(mask: ir.Value, q: ir.Value, k: ir.Value, make: Nodes) -> ir.Value | str:
    """`mask` with an axis for queries and one for keys that are whole, as the operator wants them.

    The operator broadcasts a mask over batch and heads alone, the Add that it replaces over every axis.
    """
    shape, queries, keys = mask.shape, q.shape, k.shape
    if shape is None or queries is None or keys is None or not 1 <= len(shape) <= 4:
        return "the shape of the mask is not known"
    last = [1, *shape][-2:]
    if any(isinstance(d, ir.SymbolicDim) and d.value is None for d in last):
        return "the shape of the mask is not known"
    if (last[0] != 1 or queries[2] == 1) and (last[1] != 1 or keys[2] == 1):
        return mask

    def size(x: ir.Value, axis: int, label: str) -> ir.Value:
        ends = {"start": axis} if axis == -1 else {"start": axis, "end": axis + 1}
        attributes: dict[str, Any] = {"dtype": ir.DataType.INT64, "shape": [1], **ends}
        return make.op("Shape", [x], label, **attributes)

    total = size(k, 2, "keys") if last[1] == 1 else size(mask, -1, "keys")
    square = last[1] != 1 and same_dim(queries[2], keys[2])
    target = [total if square else size(q, 2, "queries"), total]
    target_size = make.op("Concat", target, "mask_size", dtype=ir.DataType.INT64, shape=[2], axis=0)
    wide = [*list(shape)[:-2], queries[2], keys[2]]
    return make.op("Expand", [mask, target_size], "wide_mask", dtype=mask.dtype, shape=wide)


def masks_whole_rows(condition: ir.Value, mask: ir.Value, context: Context) -> bool:
    """Whether `condition` is true just for those queries that `mask` lets attend to nothing.

    Both are run in every case of the input domain; False where nothing is known about legal inputs.
    """
    key = ("masks-whole-rows", condition, mask)
    if key not in context.memo:
        context.memo[key] = _agree(condition, mask, context)
    return bool(context.memo[key])


def _agree(condition: ir.Value, mask: ir.Value, context: Context) -> bool:
    if context.domain is None or condition.dtype != ir.DataType.BOOL:
        return False
    run = evaluator(extract(context.model.graph, [condition, mask]))
    for case in context.domain.cases(np.random.default_rng(0)):
        rows, value = run(case.feeds)
        nothing = ~_allowed(value).any(-1, keepdims=True)
        if rows.shape != nothing.shape or not np.array_equal(rows, nothing):
            return False
    return True


def forbids(added: ir.Value, context: Context) -> bool:
    """Whether `added` to scores hides any of them in a legal call; True where no call is known."""
    key = ("forbids", added)
    if context.domain is None:
        return True
    if key not in context.memo:
        run = evaluator(extract(context.model.graph, [added]))
        runs = (run(case.feeds)[0] for case in context.domain.cases(np.random.default_rng(0)))
        context.memo[key] = any((value <= FORBIDDING).any() for value in runs)
    return bool(context.memo[key])


def floor(mask: ir.Value, dtype: ir.DataType, context: Context) -> float | None:
    """The least number of `dtype` that hides a key and still counts as a number, where one is needed.

    onnxruntime takes a bias of exactly the lowest float for "never": a query that may see nothing gets zeros,
    where a sum with scores gives every key the same weight. None where a family's legal calls, padding left
    out, have no such query: what it calls padding is not specified.
    """
    key = ("hides-whole-rows", mask)
    if key not in context.memo:
        context.memo[key] = _may_hide_rows(mask, context)
    return (
        float(np.nextafter(np.finfo(kind := dtype.numpy()).min, kind.type(0))) if context.memo[key] else None
    )


def _may_hide_rows(mask: ir.Value, context: Context) -> bool:
    if context.domain is None:
        return True
    cases = [c for c in context.domain.cases(np.random.default_rng(0)) if c.padding == "none"]
    run = evaluator(extract(context.model.graph, [mask]))
    values = (run(case.feeds)[0] for case in cases)
    return any(bool((~_allowed(value)).all(-1).any()) for value in values)


def _allowed(mask: Array) -> Array:
    """True where a query may attend: of a bool mask itself, of an additive one where it does not forbid."""
    return mask if mask.dtype == np.bool_ else mask > np.finfo(mask.dtype).min / 2
