"""lower-causal-conv: a causal convolution over past and new inputs becomes one kernel with a state."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import onnx_ir as ir

from graphopt.ir import MICROSOFT, const_of, consumers, is_output, producer, static_dim
from graphopt.pipeline import Context, Contract, Edit, Edits, Level, NearMiss, Nodes, OpsetRange, Pass

_END = np.iinfo(np.int32).max  # exporters write the end of an axis as this or as int64's


class LowerCausalConv(Pass):
    """A depthwise convolution over a state and new inputs becomes onnxruntime's CausalConvWithState.

    Before: w = Concat(state, x); y = Conv(w, weight, bias); present = Slice(w, the last K-1 places)
            with state [batch, channels, K-1], x [batch, channels, sequence], weight [channels, 1, K]
    After:  y, present = CausalConvWithState(x, weight, bias, state); with Mul(y, Sigmoid(y)) behind it,
            where y has no other use, as its activation
    Refuses: padding, strides, dilation or groups of more than one channel; a state that is not K-1 long;
    another use of state and inputs together.
    """

    name: ClassVar[str] = "lower-causal-conv"
    level: ClassVar[Level] = Level.LOWER
    contract: ClassVar[Contract] = Contract.reassociates()
    opsets: ClassVar[OpsetRange] = OpsetRange(13, None)

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        for node in graph:
            joined = (
                producer(node.inputs[0], "Concat") if node.op_type == "Conv" and node.domain == "" else None
            )
            if joined is None or len(joined.inputs) != 2:
                continue
            reason = _unfit(node, joined)
            if reason is not None:
                yield NearMiss(node.name or "Conv", reason)
                continue
            yield _lowered(node, joined)


def _unfit(node: ir.Node, joined: ir.Node) -> str | None:
    state, weight = joined.inputs[0], node.inputs[1]
    channels, kernel = static_dim(weight, 0), static_dim(weight, 2)
    if weight is None or weight.shape is None or len(weight.shape) != 3 or kernel is None:
        return "the kernel is not [channels, 1, size]"
    if joined.attributes.get_int("axis", 0) not in (-1, 2):
        return "its input is not a state and new values concatenated along the sequence"
    if node.attributes.get_int("group", 1) != channels or static_dim(weight, 1) != 1:
        return "it is not a depthwise convolution"
    for name, neutral in (("pads", 0), ("strides", 1), ("dilations", 1)):
        if any(value != neutral for value in node.attributes.get_ints(name) or ()):
            return f"it has {name}"
    if static_dim(state, 2) != kernel - 1:
        return "the state is not one shorter than the kernel"
    if weight.dtype != ir.DataType.FLOAT:
        return f"the kernel does not take {weight.dtype}"
    others = [user for user in consumers(joined.outputs[0]) if user is not node]
    if is_output(joined.outputs[0]) or not all(_keeps_the_last(user, kernel - 1) for user in others):
        return "the state and inputs, concatenated, have another use"
    return None


def _keeps_the_last(node: ir.Node, places: int) -> bool:
    """Whether `node` is a Slice of that many last places along the sequence."""
    if node.op_type != "Slice" or node.domain != "" or len(node.inputs) < 4:
        return False
    numbers = [None if (c := const_of(value)) is None else c.tolist() for value in node.inputs[1:5]]
    match numbers:
        case [[start], [end], [axis], *steps]:
            return start == -places and end >= _END and axis in (2, -1) and steps in ([], [[1]])
    return False


def _lowered(node: ir.Node, joined: ir.Node) -> Edit:
    state, x = joined.inputs
    slices = [user for user in consumers(joined.outputs[0]) if user is not node]
    activation = _silu(node.outputs[0])
    end = activation[-1].outputs[0] if activation else node.outputs[0]
    make = Nodes(node.name or "conv")
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    y, present = make.many(
        "CausalConvWithState",
        [x, node.inputs[1], bias, state],
        "causal_conv",
        [end, state],
        domain=MICROSOFT,
        ndim=1,
        activation="silu" if activation else "none",
    )
    return Edit(
        f"CausalConvWithState{', with SiLU' if activation else ''}",
        remove=[joined, node, *slices, *activation],
        insert=make.nodes,
        replace={end: y, **{user.outputs[0]: present for user in slices}},
        before=joined,
    )


def _silu(y: ir.Value) -> list[ir.Node]:
    """Sigmoid and product, where they are all that becomes of `y`."""
    users = consumers(y)
    sigmoid = next((user for user in users if user.op_type == "Sigmoid" and user.domain == ""), None)
    if sigmoid is None or is_output(y) or len(users) != 2:
        return []
    (product,) = (user for user in users if user is not sigmoid)
    fits = product.op_type == "Mul" and set(product.inputs) == {y, sigmoid.outputs[0]}
    alone = consumers(sigmoid.outputs[0]) == (product,) and not is_output(sigmoid.outputs[0])
    return [sigmoid, product] if fits and alone else []
