"""The inputs that every GroupQueryAttention of a graph shares: lengths, and the mask as a bias."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from graphopt.ir import MICROSOFT
from graphopt.pipeline import Context, Nodes
from graphopt.targets import Target

__all__ = [
    "Lengths",
    "attention_bias",
    "dense_lengths",
    "masked_lengths",
    "refused_size",
    "rotates",
    "takes_bias",
    "takes_type",
]

# So large that a masked key weighs nothing, yet small enough that a score added to it stays finite: a row
# that sees no key (padding) must not turn into NaN and spoil the cache.
_MASKED = {ir.DataType.FLOAT: -1e30, ir.DataType.FLOAT16: -3e4}
_TYPES = {ir.DataType.FLOAT: "float", ir.DataType.FLOAT16: "float16"}
_INT32 = int(ir.DataType.INT32)
_END = np.iinfo(np.int64).max  # of a Slice: to the end, whatever the size
# Heads, and rotated parts of them, are multiples of these in onnxruntime's kernels
# (docs/decisions/grouped-query-attention.md): for a graph that is made for no target in particular.
_SIZES, _ROTATED = 8, 16


def refused_size(size: int, context: Context) -> str | None:
    """Why GroupQueryAttention cannot have heads of `size` elements on the target, if it cannot."""
    if context.target is None:
        fits = size % _SIZES == 0
        return None if fits else f"the kernel needs a head size that is a multiple of {_SIZES}, not {size}"
    fits = _accepts(context.target, "head-size", size)
    return None if fits else f"the target {context.target.name!r} takes no heads of {size}"


def rotates(size: int, rotated: int, context: Context) -> bool:
    """Whether GroupQueryAttention rotates the first `rotated` elements of heads of `size` on the target."""
    if context.target is None:
        return size % _ROTATED == 0 and rotated % _ROTATED == 0
    return _accepts(context.target, "rotary-head-size", size, rotated)


def takes_bias(context: Context) -> bool:
    """Whether GroupQueryAttention adds a bias to scores on the target; of one that does not say, it does."""
    if context.target is None:
        return True
    try:
        return context.target.capabilities().accepts("attention-bias")
    except KeyError:
        return True


def takes_type(dtype: ir.DataType | None, context: Context) -> bool:
    """Whether GroupQueryAttention has a kernel for `dtype` on the target, with a cache of it."""
    if dtype not in _TYPES or context.target is None:
        return dtype in _TYPES
    kind = f"tensor({_TYPES[dtype]})"
    kernels = context.target.capabilities()
    return kernels.supports(MICROSOFT, "GroupQueryAttention", 1, {"T": kind, "T_CACHE": kind})


def _accepts(target: Target, rule: str, *values: int) -> bool:
    try:
        return target.capabilities().accepts(rule, *values)
    except KeyError:  # the target does not know the rule, so it has not said that it does
        return False


@dataclass(frozen=True)
class Lengths:
    """seqlens_k int32[batch], total_sequence_length int32[], query_seqlens int32[batch]."""

    seqlens_k: ir.Value
    total: ir.Value
    queries: ir.Value


@dataclass(frozen=True)
class _Sizes:
    batch: ir.Value  # int64[1]
    sequence: ir.Value  # int64[1]
    total: ir.Value  # int64[1]


def _sizes(query: ir.Value, mask: ir.Value | None, past: ir.Value, make: Nodes) -> _Sizes:
    """Sizes from `query` [batch, sequence, ...] and from `mask` [batch, total]; without one, from `past`.

    Only the mask tells how many keys there are where the cache is a buffer with room for more.
    """
    one_int: dict[str, Any] = {"dtype": ir.DataType.INT64, "shape": [1]}
    batch = make.op("Shape", [query], "batch", start=0, end=1, **one_int)
    sequence = make.op("Shape", [query], "sequence", start=1, end=2, **one_int)
    if mask is not None:
        return _Sizes(batch, sequence, make.op("Shape", [mask], "total", start=1, end=2, **one_int))
    cached = make.op("Shape", [past], "cached", start=2, end=3, **one_int)
    return _Sizes(batch, sequence, make.op("Add", [cached, sequence], "total", **one_int))


def masked_lengths(
    query: ir.Value, mask: ir.Value | None, past: ir.Value, make: Nodes
) -> tuple[Lengths, ir.Value]:
    """Lengths that count padding as tokens, the same for all rows; and how many tokens are new, int64[1]."""
    sizes = _sizes(query, mask, past, make)
    total = make.op("Cast", [sizes.total], "total_int32", dtype=ir.DataType.INT32, shape=[1], to=_INT32)
    new = make.op("Cast", [sizes.sequence], "sequence_int32", dtype=ir.DataType.INT32, shape=[1], to=_INT32)
    one = make.constant([1], np.int32, "one")
    last = make.op("Sub", [total, one], "last", like=total)
    return (
        Lengths(
            _per_row(last, sizes.batch, make, "seqlens_k"),
            _scalar(total, make, "total_sequence_length"),
            _per_row(new, sizes.batch, make, "query_seqlens"),
        ),
        sizes.sequence,
    )


def dense_lengths(query: ir.Value, mask: ir.Value, past: ir.Value, make: Nodes) -> Lengths:
    """Each row's own lengths, padding left out.

    `query_seqlens` is -1, which the kernel rejects, where a row does not begin with a token or its new tokens
    are not followed by their padding.
    """
    sizes = _sizes(query, mask, past, make)
    int32 = ir.DataType.INT32
    zero, one = make.constant([0], np.int64, "zero"), make.constant([1], np.int64, "one")
    end = make.constant([_END], np.int64, "end")
    one32, refused = make.constant(1, np.int32, "one_int32"), make.constant(-1, np.int32, "refused")
    tokens = make.op("Cast", [mask], "tokens", like=mask, dtype=int32, to=_INT32)
    count = make.op("ReduceSum", [tokens, one], "token_count", dtype=int32, shape=[None], keepdims=0)
    first_new = make.op("Neg", [sizes.sequence], "first_new", like=sizes.sequence)
    new = make.op("Slice", [tokens, first_new, end, one], "new", dtype=int32, shape=[None, None])
    queries = make.op("ReduceSum", [new, one], "new_count", dtype=int32, shape=[None], keepdims=0)

    sequence = make.op("Cast", [sizes.sequence], "sequence_int32", dtype=int32, shape=[1], to=_INT32)
    stop = make.op("Add", [_scalar(sequence, make, "new_length"), one32], "stop", dtype=int32, shape=[])
    places = make.op("Range", [one32, stop, one32], "places", dtype=int32, shape=[None])
    placed = make.op("Mul", [new, places], "placed", dtype=int32, shape=[None, None])
    last = make.op("ReduceMax", [placed, one], "last_token", dtype=int32, shape=[None], keepdims=0)
    column = make.op("Slice", [tokens, zero, one, one], "first_column", dtype=int32, shape=[None, 1])
    first = make.op("Squeeze", [column, one], "first_token", dtype=int32, shape=[None])
    ends_well = make.op("Equal", [last, queries], "ends_well", dtype=ir.DataType.BOOL, shape=[None])
    begins_well = make.op("Equal", [first, one32], "begins_well", dtype=ir.DataType.BOOL, shape=[None])
    right = make.op("And", [begins_well, ends_well], "right_padded", dtype=ir.DataType.BOOL, shape=[None])

    total = make.op("Cast", [sizes.total], "total_int32", dtype=int32, shape=[1], to=_INT32)
    return Lengths(
        make.op("Sub", [count, one32], "seqlens_k", dtype=int32, shape=[None]),
        _scalar(total, make, "total_sequence_length"),
        make.op("Where", [right, queries, refused], "query_seqlens", dtype=int32, shape=[None]),
    )


def attention_bias(mask: ir.Value, sequence: ir.Value, dtype: ir.DataType, make: Nodes) -> ir.Value:
    """[batch, 1, sequence, total]: 0 where the key is a token (`mask` is not 0), else a large negative."""
    batch, total = mask.shape or (None, None)
    token = make.op("Cast", [mask], "is_token", like=mask, dtype=ir.DataType.BOOL, to=int(ir.DataType.BOOL))
    zero = make.constant(0, dtype.numpy(), "seen")
    masked = make.constant(_MASKED[dtype], dtype.numpy(), "masked")
    row = make.op("Where", [token, zero, masked], "bias_row", dtype=dtype, shape=[batch, total])
    axes = make.constant([1, 2], np.int64, "bias_axes")
    wide = make.op("Unsqueeze", [row, axes], "bias_rows", dtype=dtype, shape=[batch, 1, 1, total])
    one = make.constant([1], np.int64, "bias_one")
    target = make.op(
        "Concat", [one, one, sequence, one], "bias_shape", dtype=ir.DataType.INT64, shape=[4], axis=0
    )
    return make.op("Expand", [wide, target], "attention_bias", dtype=dtype, shape=[batch, 1, None, total])


def _per_row(value: ir.Value, batch: ir.Value, make: Nodes, label: str) -> ir.Value:
    return make.op("Expand", [value, batch], label, dtype=ir.DataType.INT32, shape=[None])


def _scalar(value: ir.Value, make: Nodes, label: str) -> ir.Value:
    return make.op("Squeeze", [value], label, dtype=ir.DataType.INT32, shape=[])
