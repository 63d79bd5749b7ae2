"""Attention sinks: a learned score for each head that takes its share of the softmax and gives nothing.

softmax([scores, sink]) without its last entry is softmax(scores) * sigmoid(logsumexp(scores) - sink), so that
attention with a sink is attention, and a factor for each query (Xiao et al. 2024, arXiv 2309.17453; gpt-oss).
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from graphopt.ir import const_of, producer

from ._nodes import Nodes, static_dim
from ._spelling import only_user, sides

__all__ = ["MASKED", "Factor", "Sunk", "with_factor"]

_SCORES = 3
MASKED = 2  # of qk_matmul_output_mode: the scores with the mask added, in either reading of the specification


@dataclass(frozen=True)
class Sunk:
    """Weights that are softmax([scores, sink]) without the sink's; `sink` is a constant [1, heads, 1, 1]."""

    softmax: ir.Node
    scores: ir.Value
    sink: ir.Value

    @classmethod
    def of(cls, weights: ir.Value | None) -> Sunk | None:
        cut = producer(weights, "Slice")
        softmax = producer(cut.inputs[0], "Softmax") if cut is not None and _drops_last(cut) else None
        if softmax is None or softmax.inputs[0] is None or only_user(softmax.outputs[0]) is None:
            return None
        concat = producer(_before_levelling(softmax.inputs[0]), "Concat")
        if concat is None or len(concat.inputs) != 2 or concat.attributes.get_int("axis") not in (-1, 3):
            return None
        scores, sink = concat.inputs
        expand = producer(sink, "Expand")
        sink = expand.inputs[0] if expand is not None else sink
        if scores is None or sink is None or sink.const_value is None:
            return None
        shape = [static_dim(sink, axis) for axis in range(len(sink.shape or ()))]
        return (
            cls(softmax, scores, sink) if len(shape) == 4 and shape[::2] == [1, 1] and shape[3] == 1 else None
        )


def _drops_last(cut: ir.Node) -> bool:
    """Whether a Slice takes all but the last entry of its last axis, of four."""
    starts, ends, axes, steps = (
        [None if c is None else c.reshape(-1).tolist() for c in map(const_of, cut.inputs[1:])] + [[1]]
    )[:4]
    return (starts, ends, steps) == ([0], [-1], [1]) and axes in ([-1], [3])


def _before_levelling(x: ir.Value) -> ir.Value:
    """y where `x` is y - max(y), which a softmax does not see; else `x`."""
    sub = producer(x, "Sub")
    largest = producer(sub.inputs[1], "ReduceMax") if sub is not None else None
    if sub is None or largest is None or largest.inputs[0] is not sub.inputs[0] or sub.inputs[0] is None:
        return x
    axes = const_of(largest.inputs[1]) if len(largest.inputs) > 1 else None
    last = axes is not None and axes.reshape(-1).tolist() in ([-1], [3])
    keeps: int = largest.attributes.get_int("keepdims", 1)
    return sub.inputs[0] if last and keeps else x


@dataclass(frozen=True)
class Factor:
    """The factor that a sink puts on the result of an Attention; `nodes` make it, the last one applies it."""

    sink: ir.Value
    nodes: tuple[ir.Node, ...]

    @classmethod
    def of(cls, attention: ir.Node) -> Factor | None:
        """The one that is on the result of `attention`, which has no other use, nor have its scores."""
        y, scores = attention.outputs[0], (*attention.outputs, *[None] * 4)[_SCORES]
        if scores is None or attention.attributes.get_int("qk_matmul_output_mode", 0) != MASKED:
            return None
        nodes: list[ir.Node] = []
        value: ir.Value = scores
        for op_type in ("ReduceLogSumExp", "Sub", "Sigmoid", "Mul"):
            node = only_user(value)
            if node is None or node.op_type != op_type or node.domain != "":
                return None
            nodes.append(node)
            value = node.outputs[0]
        total, gap, gate, product = nodes
        sink = gap.inputs[1]
        if gap.inputs[0] is not total.outputs[0] or sink is None or sink.const_value is None:
            return None
        axes = const_of(total.inputs[1]) if len(total.inputs) > 1 else None
        over_keys = axes is not None and axes.reshape(-1).tolist() in ([-1], [3])
        if not over_keys or not total.attributes.get_int("keepdims", 1) or only_user(y) is not product:
            return None
        if not any(x is y and factor is gate.outputs[0] for x, factor in sides(product)):
            return None
        return cls(sink, tuple(nodes))


def with_factor(made: list[ir.Value], sink: ir.Value, like: ir.Value, make: Nodes) -> ir.Value:
    """The result of an Attention whose outputs are `made`, the scores among them, with its sink."""
    y, scores = made[0], made[_SCORES]
    rows = None if like.shape is None else [*like.shape[:3], 1]
    last = make.constant([-1], "int64", "last")
    total = make.op("ReduceLogSumExp", [scores, last], "total", dtype=y.dtype, shape=rows, keepdims=1)
    gap = make.op("Sub", [total, sink], "gap", dtype=y.dtype, shape=rows)
    gate = make.op("Sigmoid", [gap], "gate", dtype=y.dtype, shape=rows)
    return make.op("Mul", [y, gate], "sunk", like=like)
