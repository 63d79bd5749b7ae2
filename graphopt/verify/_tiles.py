"""Windows with huge weights, a tile of their longest axis at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import prod

import onnx
from onnx import numpy_helper

from graphopt.ir import Expr, Sliced
from graphopt.ir.operators import OUTPUT_SIZES
from graphopt.verify._window import Leaf, Piece, Weight, Window

__all__ = ["in_tiles"]

_FREE_ABOVE, _FREE_TILE = 1 << 20, 1024
"""Elements above which one tile stands for a weight whose content does not count, and its length. A
judgement: 4 MiB as float32 are run again at every size; 1024 is a multiple of every block size."""
_HELD_ABOVE, _HELD_TILE = 64 << 20, 16384
"""The same where all of it counts, a tile after the other: the worker holds 256 MiB several times."""
_BLOCKED = ("DequantizeLinear", "QuantizeLinear")
_BEYOND = 2
"""Windows are tried at one more than a constant, and one token after that."""


def in_tiles(window: Window) -> Iterator[Window]:
    """The window itself if its weights are of usual size, else as windows over parts of their longest axis.

    Where it counts what the weights hold, all of the axis is covered, in order. Else any part stands for the
    others, and there is only one.
    """
    above, step = (_HELD_ABOVE, _HELD_TILE) if window.by_content else (_FREE_ABOVE, _FREE_TILE)
    weights = [w.expr for piece in (window.before, window.after) for w in piece.weights.values()]
    largest = max(weights, key=lambda e: prod(e.shape), default=None)
    if largest is None or prod(largest.shape) <= above:
        yield window
        return
    length = max(largest.shape)
    if not window.by_content:  # a table of positions must have those of the lengths that are tried
        step = max([step, *(c + _BEYOND for _, c in window.lengths if c < length)])
    pieces = (window.before, window.after)
    if length <= step or not all(_has(p, length) and _divisible(p, length) for p in pieces):
        yield window
        return
    for start in range(0, length if window.by_content else 1, step):
        yield _tile(window, length, start, min(start + step, length))


def _has(piece: Piece, length: int) -> bool:
    return any(length in weight.expr.shape for weight in piece.weights.values())


def _divisible(piece: Piece, length: int) -> bool:
    """Whether nothing but weights, and the width of a product, says how long the axis is."""
    model = onnx.ModelProto.FromString(piece.model)
    if any(e.shape.count(length) > 1 for e in (w.expr for w in piece.weights.values())):
        return False
    for tensor in model.graph.initializer:
        if tensor.data_type in (onnx.TensorProto.INT64, onnx.TensorProto.INT32):
            if length in numpy_helper.to_array(tensor).reshape(-1):
                return False
        elif length in tensor.dims:
            return False
    if any(node.op_type in _BLOCKED and _in_blocks(node, piece, length) for node in model.graph.node):
        return False
    return not any(
        length in (a.i, *a.ints) or a.HasField("g") or a.HasField("t")
        for node in model.graph.node
        for a in node.attribute
        if a.name != OUTPUT_SIZES.get((node.domain, node.op_type))
    )


def _in_blocks(node: onnx.NodeProto, piece: Piece, length: int) -> bool:
    """Whether the axis is one along which each block of `node`'s weight has a scale of its own."""
    given: dict[str, int] = {a.name: a.i for a in node.attribute}
    weight = piece.weights.get(node.input[0])
    if not given.get("block_size") or weight is None:
        return False
    return length == weight.expr.shape[given.get("axis", 1)]


def _tile(window: Window, length: int, start: int, stop: int) -> Window:
    def cut(expr: Expr) -> Expr:
        return Sliced(expr, expr.shape.index(length), start, stop) if length in expr.shape else expr

    def part(piece: Piece) -> Piece:
        model = onnx.ModelProto.FromString(piece.model)
        for node in model.graph.node:
            size = OUTPUT_SIZES.get((node.domain, node.op_type))
            for attribute in node.attribute:
                if (attribute.name, attribute.i) == (size, length):
                    attribute.i = stop - start
        weights = {name: Weight(cut(w.expr), w.fed) for name, w in piece.weights.items()}
        return Piece(model.SerializeToString(deterministic=True), weights)

    def narrowed(leaf: Leaf) -> Leaf:
        dims = leaf.dims and tuple(stop - start if d == length else d for d in leaf.dims)
        return replace(leaf, dims=dims, below=stop - start if leaf.source is not None else None)

    return replace(
        window,
        before=part(window.before),
        after=part(window.after),
        leaves=tuple(narrowed(leaf) for leaf in window.leaves),
    )
