"""fold-pads: a convolution or pooling pads by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir

from graphopt.ir import const_of, only_user, producer, scalar_of
from graphopt.pipeline import (
    Context,
    Contract,
    Edit,
    Edits,
    Level,
    NearMiss,
    Nodes,
    OpsetRange,
    Pass,
    assume_not_empty,
)

_PADDED = ("Conv", "AveragePool", "MaxPool")
_REAL = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE)


class FoldPads(Pass):
    """A Pad along the axes that the operator behind it slides over becomes its `pads`.

    Before: y = Conv(Pad(x, pads), W, b), padded by zeros
    After:  y = Conv(x, W, b), pads
    Before: y = AveragePool(Pad(x, pads)), padded by zeros
    After:  y = AveragePool(x), pads, count_include_pad = 1
    Before: y = MaxPool(Pad(x, pads)), padded by -inf, or by zeros where x is of a Relu
    After:  y = MaxPool(x), pads
    Refuses: pads that are no constants, negative, or of batch and channels; padding by other values, or by
    reflection; operators that choose their pads; of poolings, sizes rounded up, windows with holes or that
    could be padding alone, own padding that does not count, places of the largest; a Pad with another use.
    Of a graph of unknown meaning it assumes that a pooling has something to pad.
    """

    name: ClassVar[str] = "fold-pads"
    level: ClassVar[Level] = Level.IMPROVE
    contract: ClassVar[Contract] = Contract.reassociates()
    opsets: ClassVar[OpsetRange] = OpsetRange(11, None)

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        for node in graph:
            if node.domain != "" or node.op_type not in _PADDED:
                continue
            pad = producer(node.inputs[0], "Pad")
            if pad is None or pad.graph is not graph:
                continue
            found = _folded(pad, node, context)
            yield NearMiss(node.name or node.op_type, found) if isinstance(found, str) else found


@dataclass(frozen=True)
class _Padding:
    """How many elements of `value` stand before and behind each axis of `x` but batch and channels."""

    x: ir.Value
    before: Sequence[int]
    behind: Sequence[int]
    value: float


def _folded(pad: ir.Node, node: ir.Node, context: Context) -> Edit | str:
    padding = _padding(pad) if only_user(pad.outputs[0]) is node else "what is padded has another use"
    if isinstance(padding, str):
        return padding
    attributes = _attributes(node, padding)
    if isinstance(attributes, str):
        return attributes
    sizes = [] if node.op_type == "Conv" else [(padding.x, 2 + i) for i in range(len(padding.before))]
    assumed = assume_not_empty(sizes, "a pooling", context)
    if isinstance(assumed, str):
        return assumed
    make, old = Nodes(node.name or node.op_type), node.outputs[0]
    y = make.op(node.op_type, [padding.x, *node.inputs[1:]], "padded", like=old, **attributes)
    return Edit(
        f"{node.op_type} pads",
        remove=[pad, node],
        insert=make.nodes,
        replace={old: y},
        assumes=assumed,
    )


def _padding(pad: ir.Node) -> _Padding | str:
    x, pads, value, axes = (*pad.inputs, None, None)[:4]
    mode = pad.attributes.get_string("mode", "constant")
    if mode != "constant":
        return f"it is padded by {mode}"
    amounts, which = const_of(pads), const_of(axes)
    filled = 0.0 if value is None else scalar_of(value)
    if x is None or amounts is None or filled is None or (axes is not None and which is None):
        return "its padding is no constant"
    if x.dtype not in _REAL:
        return f"it pads numbers of {x.dtype}"
    half = amounts.size // 2
    if which is not None:
        if x.shape is None:
            return "the rank of what is padded is unknown"
        whole = np.zeros((2, len(x.shape)), np.int64)
        whole[:, which] = amounts.reshape(2, half)
    else:
        whole = amounts.reshape(2, half)
    if (whole < 0).any() or whole[:, :2].any():
        return "it takes elements away, or pads batch or channels"
    return _Padding(x, whole[0, 2:].tolist(), whole[1, 2:].tolist(), filled)


def _attributes(node: ir.Node, padding: _Padding) -> dict[str, Any] | str:
    """The attributes of `node` once it pads itself."""
    attributes = node.attributes
    own = list(attributes.get_ints("pads", ())) or [0] * (2 * len(padding.before))
    if attributes.get_string("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return "it chooses its padding by itself"
    total = [a + b for a, b in zip(own, [*padding.before, *padding.behind], strict=True)]
    made = {**attributes, "pads": total, "auto_pad": "NOTSET"}
    if node.op_type == "Conv":
        return made if padding.value == 0 else "it is not padded by zeros"
    kernel = attributes.get_ints("kernel_shape", ())
    if attributes.get_int("ceil_mode", 0) or any(step != 1 for step in attributes.get_ints("dilations", ())):
        return "it rounds sizes up, or its windows have holes"
    if any(amount >= size for amount, size in zip(total, [*kernel, *kernel], strict=True)):
        return "a window could be padding alone"
    if node.op_type == "AveragePool":
        if padding.value != 0:
            return "it is not padded by zeros"
        counts: int = attributes.get_int("count_include_pad", 0)
        return (
            {**made, "count_include_pad": 1} if counts or not any(own) else "its own padding does not count"
        )
    if len(node.outputs) > 1:
        return "it says where the largest are"
    of_relu = padding.value == 0 and producer(padding.x, "Relu") is not None
    return made if of_relu or padding.value == -np.inf else "what it is padded by could be the largest"
