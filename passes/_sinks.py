"""Attention sinks: a learned score for each head that takes its share of the softmax and gives nothing.

softmax([scores, sink]) without its last entry is softmax(scores) * sigmoid(logsumexp(scores) - sink), so that
attention with a sink is attention, and a factor for each query (Xiao et al. 2024, arXiv 2309.17453; gpt-oss).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import onnx_ir as ir

from graphopt.ir import LazyTensor, Reshaped, const_of, either_order, lazy, only_user, producer, static_dim
from graphopt.pipeline import Nodes

from ._scores import before_max_subtraction, leads_to_product

__all__ = ["MASKED", "Factor", "Sunk", "with_factor"]

_SCORES = 3  # Attention's output qk_matmul_output
MASKED = 2  # of qk_matmul_output_mode: the scores with the mask added, in either reading of the specification


@dataclass(frozen=True)
class Sunk:
    """Attention with a sink, in either spelling: `end` makes its result, `users` are all that read `scores`.

    `sink` is a constant [1, heads, 1, 1] or [1, heads, 1].
    """

    softmax: ir.Node
    scores: ir.Value
    users: tuple[ir.Node, ...]
    sink: ir.Value
    end: ir.Node

    @classmethod
    def of(cls, product: ir.Node) -> Sunk | str | None:
        """The one whose weights `product` multiplies with values; why not, where it nearly is one."""
        return cls._cut(product) or cls._gated(product)

    @classmethod
    def _cut(cls, product: ir.Node) -> Sunk | str | None:
        """softmax([scores, sink]) without its last entry."""
        cut = producer(product.inputs[0], "Slice")
        softmax = producer(cut.inputs[0], "Softmax") if cut is not None and _drops_last(cut) else None
        if softmax is None or softmax.inputs[0] is None or only_user(softmax.outputs[0]) is None:
            return None
        concat = producer(before_max_subtraction(softmax)[0], "Concat")
        if concat is None or len(concat.inputs) != 2 or concat.attributes.get_int("axis") not in (-1, 3):
            return None
        scores, sink = concat.inputs
        expand = producer(sink, "Expand")
        sink = expand.inputs[0] if expand is not None else sink
        if scores is None or sink is None:
            return None
        if not _is_sink(sink, 4):
            is_near = leads_to_product(scores, computed=True)
            return "what is appended to the scores is not one constant for each head" if is_near else None
        return cls(softmax, scores, (concat,), sink, product)

    @classmethod
    def _gated(cls, product: ir.Node) -> Sunk | None:
        """softmax(scores) V * sigmoid(logsumexp(scores) - sink)."""
        softmax = producer(product.inputs[0], "Softmax")
        gate = _Gate.on(product.outputs[0])
        if softmax is None or gate is None:
            return None
        scores, users = before_max_subtraction(softmax)
        total, *_, end = gate.nodes
        return cls(softmax, scores, (*users, total), gate.sink, end) if gate.scores is scores else None


def _drops_last(cut: ir.Node) -> bool:
    """Whether a Slice takes all but the last entry of its last axis, of four."""
    starts, ends, axes, steps = (
        [None if c is None else c.reshape(-1).tolist() for c in map(const_of, cut.inputs[1:])] + [[1]]
    )[:4]
    return (starts, ends, steps) == ([0], [-1], [1]) and axes in ([-1], [3])


def _is_sink(value: ir.Value, rank: int) -> bool:
    """Whether `value` is a constant [1, heads, 1, ..]."""
    shape = [static_dim(value, axis) for axis in range(len(value.shape or ()))]
    return value.const_value is not None and len(shape) == rank and {shape[0], *shape[2:]} == {1}


@dataclass(frozen=True)
class _Gate:
    """y * sigmoid(logsumexp(scores) - sink); `nodes` make it and nothing else, the last one applies it."""

    scores: ir.Value
    sink: ir.Value
    nodes: tuple[ir.Node, ...]

    @classmethod
    def on(cls, y: ir.Value) -> _Gate | None:
        """The one that is the only use of `y`."""
        product = only_user(y)
        if product is None or product.op_type != "Mul" or product.domain != "":
            return None
        factor = next((other for x, other in either_order(product) if x is y), None)
        wide = producer(factor, "Unsqueeze")
        gate = producer(factor if wide is None else wide.inputs[0], "Sigmoid")
        gap = producer(gate.inputs[0], "Sub") if gate is not None else None
        total = producer(gap.inputs[0], "ReduceLogSumExp") if gap is not None else None
        if gate is None or gap is None or total is None:
            return None
        scores, sink = total.inputs[0], gap.inputs[1]
        nodes = [node for node in (total, gap, gate, wide, product) if node is not None]
        alone = all(only_user(node.outputs[0]) is after for node, after in pairwise(nodes))
        keeps = bool(total.attributes.get_int("keepdims", 1))
        if not alone or not _last_axis(total) or keeps is not (wide is None):
            return None
        if wide is not None and not _last_axis(wide):
            return None
        if scores is None or sink is None or not _is_sink(sink, 4 if keeps else 3):
            return None
        return cls(scores, sink, tuple(nodes))


def _last_axis(node: ir.Node) -> bool:
    """Whether the axes that are the second input of `node` are the last of four."""
    axes = const_of(node.inputs[1]) if len(node.inputs) > 1 else None
    return axes is not None and axes.reshape(-1).tolist() in ([-1], [3])


@dataclass(frozen=True)
class Factor:
    """The factor that a sink puts on the result of an Attention; `nodes` make it, the last one applies it."""

    sink: ir.Value
    nodes: tuple[ir.Node, ...]

    @classmethod
    def of(cls, attention: ir.Node) -> Factor | None:
        """The one that is on the result of `attention`, which has no other use, nor have its scores."""
        scores = (*attention.outputs, *[None] * 4)[_SCORES]
        gate = _Gate.on(attention.outputs[0])
        if scores is None or gate is None or gate.scores is not scores:
            return None
        masked = attention.attributes.get_int("qk_matmul_output_mode", 0) == MASKED
        return cls(gate.sink, gate.nodes) if masked and only_user(scores) is gate.nodes[0] else None


def with_factor(made: list[ir.Value], sink: ir.Value, like: ir.Value, make: Nodes) -> ir.Value:
    """The result of an Attention whose outputs are `made`, the scores among them, with its sink."""
    y, scores = made[0], made[_SCORES]
    if sink.shape is not None and len(sink.shape) == 3 and sink.const_value is not None:
        wide = Reshaped(lazy(sink.const_value), (*sink.shape.numpy(), 1))
        sink = make.weight(LazyTensor(wide), f"{make.base}/sink")
    rows = None if like.shape is None else [*like.shape[:3], 1]
    last = make.constant([-1], "int64", "last")
    total = make.op("ReduceLogSumExp", [scores, last], "total", dtype=y.dtype, shape=rows, keepdims=1)
    gap = make.op("Sub", [total, sink], "gap", dtype=y.dtype, shape=rows)
    gate = make.op("Sigmoid", [gap], "gate", dtype=y.dtype, shape=rows)
    return make.op("Mul", [y, gate], "sunk", like=like)
