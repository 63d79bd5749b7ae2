"""remove-noops: nodes that return their input as it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from graphopt.ir import const_of, producer, same_shape, scalar_of, static_dim
from graphopt.pipeline import Context, Contract, Edit, Edits, Level, NearMiss, OpsetRange, Pass

_END = np.iinfo(np.int32).max  # exporters write the end of an axis as this or as int64's
_HELD = {
    ir.DataType.BFLOAT16: (ir.DataType.FLOAT, ir.DataType.DOUBLE),
    ir.DataType.FLOAT16: (ir.DataType.FLOAT, ir.DataType.DOUBLE),
    ir.DataType.FLOAT: (ir.DataType.DOUBLE,),
    ir.DataType.INT32: (ir.DataType.INT64,),
}
"""Wider types that hold every number of a type."""
_Rule = Callable[[ir.Node], ir.Value | str | None]


class RemoveNoops(Pass):
    """A node that provably returns its first input goes.

    Before: y = Identity(x) | Cast(x to its own type, at once or by way of a wider one)
            | Transpose(x, 0..n) | Slice(x, everything) | Reshape/Expand(x to its own shape)
            | Mul/Div(x, 1) | Add/Sub(int x, 0) | Pow(x, 1)
            | And(x, true) | Or(x, false) | Concat(x, nothing) | Pad(x, by 0)
            | Dropout(x) at inference, or of ratio 0
    After:  x
    Refuses: a float Add of 0 (it turns -0.0 into 0.0); a Resize by 1 that interpolates or crops; a scalar
    operand that broadcasts the other to a larger shape; shapes that are not known to be equal; a Dropout
    that trains or whose mask is used; a graph input that would itself become an output.
    """

    name: ClassVar[str] = "remove-noops"
    level: ClassVar[Level] = Level.IMPROVE
    contract: ClassVar[Contract] = Contract.exact()
    opsets: ClassVar[OpsetRange] = OpsetRange(7, None)

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        for node in graph:
            used = [o for o in node.outputs if o.uses() or o.is_graph_output()]
            if node.domain != "" or not used:
                continue
            if len(used) > 1 or used[0] is not node.outputs[0]:
                if node.op_type == "Dropout":
                    yield NearMiss(node.name or node.op_type, "its mask is used")
                continue
            kept = _passed_through(node)
            output = node.outputs[0]
            if isinstance(kept, str):
                yield NearMiss(node.name or node.op_type, kept)
                continue
            if kept is None:
                continue
            if output.is_graph_output() and (
                kept.producer() is None or kept.is_graph_output() or kept.graph is not output.graph
            ):
                yield NearMiss(
                    node.name or node.op_type,
                    f"output {output.name!r} would be input or output {kept.name!r}",
                )
                continue
            yield Edit(f"{node.op_type} changes nothing", remove=[node], replace={output: kept})


def _passed_through(node: ir.Node) -> ir.Value | str | None:
    """The input that `node` returns as it is; why not, where it nearly does."""
    rule = _RULES.get(node.op_type)
    return rule(node) if rule and node.inputs and node.inputs[0] is not None else None


def _first(node: ir.Node) -> ir.Value:
    value = node.inputs[0]
    assert value is not None
    return value


def _second(node: ir.Node) -> ir.Value | None:
    return node.inputs[1] if len(node.inputs) > 1 else None


def _cast(node: ir.Node) -> ir.Value | None:
    x, to = _first(node), ir.DataType(node.attributes["to"].as_int())
    if x.dtype == to:
        return x
    inner = producer(x, "Cast")
    before = inner.inputs[0] if inner is not None else None
    is_held = before is not None and before.dtype == to and x.dtype in _HELD.get(to, ())
    return before if is_held else None


def _cast_like(node: ir.Node) -> ir.Value | None:
    x, like = _first(node), _second(node)
    return x if like is not None and x.dtype is not None and x.dtype == like.dtype else None


def _transpose(node: ir.Node) -> ir.Value | None:
    perm = node.attributes.get_ints("perm")
    return _first(node) if perm is not None and list(perm) == list(range(len(perm))) else None


def _same_shape(node: ir.Node) -> ir.Value | None:
    x, y = _first(node), node.outputs[0]
    return x if same_shape(x.shape, y.shape) else None


def _slice(node: ir.Node) -> ir.Value | None:
    if len(node.inputs) < 3:  # before opset 10
        return None
    starts, ends = (const_of(v) if v is not None else None for v in node.inputs[1:3])
    steps = const_of(node.inputs[4]) if len(node.inputs) > 4 and node.inputs[4] is not None else np.ones(1)
    if starts is None or ends is None or steps is None:
        return None
    return _first(node) if (starts == 0).all() and (ends >= _END).all() and (steps == 1).all() else None


def _neutral(value: int, *, commutes: bool, integers_only: bool = False) -> _Rule:
    def rule(node: ir.Node) -> ir.Value | str | None:
        reason = None
        pairs = [(node.inputs[0], node.inputs[1])]
        if commutes:
            pairs.append((node.inputs[1], node.inputs[0]))
        for x, operand in pairs:
            constant = const_of(operand) if operand is not None else None
            if x is None or constant is None or not (constant == value).all():
                continue
            if integers_only and (
                x.dtype is None or not (x.dtype.is_integer() or x.dtype == ir.DataType.BOOL)
            ):
                reason = f"{node.op_type} of a float and 0 may change the sign of a zero"
                continue
            if (constant.size == 1 and constant.ndim == 0) or same_shape(x.shape, node.outputs[0].shape):
                return x
            if constant.size == 1 and x.shape is not None and constant.ndim <= len(x.shape):
                return x
            reason = "its result may be larger than its operand, which it broadcasts"
        return reason

    return rule


def _concat(node: ir.Node) -> ir.Value | None:
    axis = node.attributes["axis"].as_int()
    filled = [v for v in node.inputs if v is not None and static_dim(v, axis) != 0]
    return filled[0] if len(filled) == 1 else None


def _pad(node: ir.Node) -> ir.Value | None:
    pads = const_of(_second(node))
    return _first(node) if pads is not None and not pads.any() else None


def _dropout(node: ir.Node) -> ir.Value | str | None:
    _, ratio, training = (*node.inputs, None, None)[:3]
    trains = const_of(training)
    if training is None or (trains is not None and not trains.any()) or scalar_of(ratio) == 0:
        return _first(node)
    return "it trains, or may"


def _resize(node: ir.Node) -> ir.Value | str | None:
    x = _first(node)
    scales, sizes = (const_of(value) for value in (*node.inputs, None, None, None)[2:4])
    by_one = scales is not None and scales.size > 0 and bool((scales == 1).all())
    whole = sizes is not None and x.shape is not None and list(x.shape) == sizes.tolist()
    if len(node.inputs) < 3 or not (by_one or whole) or node.attributes.get_ints("axes") is not None:
        return None
    if node.attributes.get_string("mode", "nearest") != "nearest":
        return "its interpolation lets infinities spread"
    cropped = (
        node.attributes.get_string("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize"
    )
    return "it crops" if cropped else x


_RULES: dict[str, _Rule] = {
    "Identity": _first,
    "Cast": _cast,
    "CastLike": _cast_like,
    "Transpose": _transpose,
    "Reshape": _same_shape,
    "Resize": _resize,
    "Expand": _same_shape,
    "Slice": _slice,
    "Mul": _neutral(1, commutes=True),
    "Div": _neutral(1, commutes=False),
    "Pow": _neutral(1, commutes=False),
    "Add": _neutral(0, commutes=True, integers_only=True),
    "Sub": _neutral(0, commutes=False, integers_only=True),
    "And": _neutral(1, commutes=True),
    "Or": _neutral(0, commutes=True),
    "Concat": _concat,
    "Pad": _pad,
    "Dropout": _dropout,
}
