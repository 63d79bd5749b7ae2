"""shield-forms: what onnxruntime's optimizer would change is kept from it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import onnx_ir as ir

from graphopt.ir import const_of, node_name, only_user, producer, scalar_of
from graphopt.pipeline import Context, Contract, Edit, Edits, Level, Nodes, OpsetRange, Pass

_INTEGERS = (ir.DataType.INT32, ir.DataType.INT64)
_CUTS = ("Relu", "Clip")
_OF_BYTES = ("MaxPool", "ReduceMax", "ReduceMin", "Conv")
"""Operators that onnxruntime computes in the integers around them, and has for 8 bits alone."""
_KNOWN = (ir.DataType.INT8, ir.DataType.UINT8, ir.DataType.INT16, ir.DataType.UINT16)
"""Types whose zero point onnxruntime looks at before it drops what cuts off in front of QuantizeLinear."""
_BITS = (ir.DataType.INT4, ir.DataType.UINT4)
_MOVED = ("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Slice")
"""Operators past which onnxruntime moves what rounds."""
_SIZES = ("Add", "Cast", "Gather", "Identity", "Max", "Mul", "Reshape", "Slice", "Squeeze", "Unsqueeze")
"""What makes a number that is not negative of such numbers."""


class ShieldForms(Pass):
    """Values between nodes that onnxruntime 1.32 would replace by others go through a Max of one input.

    Before: Gather(x, Range(a, b, c)), which becomes Slice(x, a, b, c): another thing below zero, or downwards
            | Mul(Div(1, x), y) of integers, which becomes Div(y, x)
            | QuantizeLinear(Relu(x)) or QuantizeLinear(Clip(x)) to int4, uint4 or floats of 8 bits, which
              becomes QuantizeLinear(x) whatever the zero point is, or can't be loaded
            | MaxPool, ReduceMax, ReduceMin or Conv of what is dequantized from int4 or uint4, and MaxPool
              whose result is rounded so, which become operators on such integers: there are none
    After:  the same with Max(indices), Max(Div(1, x)), ... in between
    Leaves: a Range that provably goes up from a number that is not negative to another; a Range, Div or cut
    with another use, which onnxruntime leaves, too; cuts at the lowest integer, which rounding does as well.
    """

    name: ClassVar[str] = "shield-forms"
    level: ClassVar[Level] = Level.LOWER
    contract: ClassVar[Contract] = Contract.exact()
    opsets: ClassVar[OpsetRange] = OpsetRange(13, None)
    shields: ClassVar[bool] = True

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        target = context.target
        if target is not None and not target.provider.endswith("ExecutionProvider"):
            return
        for node in graph:
            for index in _changed(node) if node.domain == "" else ():
                make, old = Nodes(node_name(node)), node.outputs[0]
                value = node.inputs[index]
                kept = make.op("Max", [value], f"kept{index}", like=value)
                inputs = [*node.inputs[:index], kept, *node.inputs[index + 1 :]]
                attributes = dict[str, Any](node.attributes)
                y = make.op(node.op_type, inputs, "shielded", like=old, **attributes)
                yield Edit(
                    f"{node.op_type} keeps what it is given",
                    remove=[node],
                    insert=make.nodes,
                    replace={old: y},
                )
                break


def _changed(node: ir.Node) -> Iterator[int]:
    """Places of the inputs of `node` at which onnxruntime would change what is computed."""
    if node.op_type == "Gather":
        places = _alone(node.inputs[1], "Range")
        if places is not None and not _upwards(places):
            yield 1
    elif node.op_type == "Mul" and node.outputs[0].dtype in _INTEGERS:
        for index, value in enumerate(node.inputs):
            share = _alone(value, "Div")
            if share is not None and scalar_of(share.inputs[0]) == 1:
                yield index
    elif node.op_type == "QuantizeLinear":
        x, dtype = node.inputs[0], node.outputs[0].dtype
        cut = any(_alone(x, kind) is not None for kind in _CUTS) and len(node.inputs) > 2
        dropped = cut and dtype not in _KNOWN and not _is_lowest(node.inputs[2], dtype)
        if dropped or (dtype in _BITS and _moved_from(x, "MaxPool") is not None):
            yield 0
    elif node.op_type in _OF_BYTES and len(node.outputs) == 1:
        rounded = _moved_from(node.inputs[0], "DequantizeLinear")
        if rounded is not None and rounded.inputs[0] is not None and rounded.inputs[0].dtype in _BITS:
            yield 0


def _alone(value: ir.Value | None, op_type: str) -> ir.Node | None:
    """The node that makes `value` for one node alone, if it is an `op_type`."""
    node = producer(value, op_type)
    return node if node is not None and value is not None and only_user(value) is not None else None


def _moved_from(value: ir.Value | None, op_type: str) -> ir.Node | None:
    """The `op_type` that makes `value`, or what it is but for where its numbers lie."""
    node = value.producer() if value is not None else None
    while node is not None and node.domain == "" and node.op_type in _MOVED:
        value = node.inputs[0]
        node = value.producer() if value is not None else None
    return producer(value, op_type)


def _upwards(places: ir.Node) -> bool:
    start, limit, delta = places.inputs
    step = scalar_of(delta)
    return step is not None and step > 0 and _is_size(start) and _is_size(limit)


def _is_size(value: ir.Value | None) -> bool:
    """Whether an integer is made of sizes and constants in a way that leaves no negative ones."""
    array = const_of(value)
    if array is not None:
        return bool((array >= 0).all())
    node = value.producer() if value is not None else None
    if node is None or node.domain:
        return False
    if node.op_type in ("Shape", "Size"):
        return True
    read = node.inputs if node.op_type in ("Add", "Max", "Mul") else node.inputs[:1]
    return node.op_type in _SIZES and all(map(_is_size, read))


def _is_lowest(zero: ir.Value | None, dtype: ir.DataType | None) -> bool:
    """Whether a zero point is the lowest number of its type."""
    number = scalar_of(zero)
    return number is not None and dtype in _BITS and number == (0 if dtype == ir.DataType.UINT4 else -8)
