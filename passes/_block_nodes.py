"""The nodes that compute with a weight in blocks: a product, and a lookup of rows."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from graphopt.families import Assumption
from graphopt.ir import MICROSOFT, ConstantMatrix, Expr, LazyTensor, Reshaped, has_data, lazy, only_user
from graphopt.pipeline import Edit, Nodes

if TYPE_CHECKING:
    from graphopt.targets import Target

__all__ = [
    "BLOCK_SIZES",
    "CAME_IN_BLOCKS",
    "BlockWeight",
    "bias_after",
    "gathered",
    "level_on",
    "looked_up",
    "multiplied",
]

BLOCK_SIZES = (16, 32, 64, 128, 256)
"""That MatMulNBits and QMoE take (onnxruntime's ContribOperators.md)."""
CAME_IN_BLOCKS = "came in blocks, and rounding it again has to be asked for (requantize)"
"""What is said of a weight that stays as the source has it."""
_SAME_NUMBERS = frozenset({"Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"})


@dataclass(frozen=True)
class BlockWeight:
    """Initializers uint8 [N, blocks, bytes], float32 [N, blocks] and perhaps packed zero points uint8
    [N, bytes], that stand for [N, width].
    """

    weight: ir.Value
    scales: ir.Value
    zeros: ir.Value | None
    bits: int
    block: int
    width: int

    @property
    def rows(self) -> int:
        assert self.weight.const_value is not None
        return int(self.weight.const_value.shape.numpy()[0])

    def new_initializers(self) -> list[ir.Value]:
        """Those that no graph has yet."""
        held = (self.weight, self.scales, self.zeros)
        return [value for value in held if value is not None and value.graph is None]


def level_on(target: Target | None, level: int) -> int:
    """`level`, or 0 where the target has no MatMulNBits: what it runs instead computes in floats."""
    has_kernel = target is None or target.capabilities().supports(MICROSOFT, "MatMulNBits", 1, {})
    return level if has_kernel else 0


def bias_after(node: ir.Node, found: ConstantMatrix) -> ir.Value | None:
    """The constant float32 [N] added to the product `node`: its own, or that of the one Add behind it."""
    if found.bias is not None:
        return found.bias if _is_bias(found.bias, found) else None
    add = only_user(node.outputs[0])
    if add is None or add.op_type != "Add" or add.domain != "":
        return None
    return next((value for value in add.inputs if _is_bias(value, found)), None)


def _is_bias(value: ir.Value | None, found: ConstantMatrix) -> bool:
    if (
        value is None
        or value.is_graph_input()
        or value.const_value is None
        or not has_data(value.const_value)
    ):
        return False
    return value.dtype == ir.DataType.FLOAT and value.const_value.shape.numpy() == (found.rows.shape[0],)


def multiplied(
    node: ir.Node,
    found: ConstantMatrix,
    made: BlockWeight,
    accuracy_level: int,
    order: Expr | None = None,
    shift: NDArray[np.float32] | None = None,
) -> Edit:
    """The product `node`, which is that of `found`, as MatMulNBits; one of float16 between two Casts.

    `order` (int64 [K]) are the places of columns 0, 1, ... in `made`, where they are others. `shift` [N] is
    added to what it gives, in the bias where `bias_after` finds one.
    """
    new = Nodes(node.name or "MatMul")
    x, is_half = found.x, found.dtype != ir.DataType.FLOAT
    if order is not None:
        inputs = new.constant(np.argsort(order.read()), np.int64, "order")
        x = new.op("Gather", [x, inputs], "ordered", like=x, axis=-1)
    if is_half:
        x = new.op("Cast", [x], "wide", like=x, dtype=ir.DataType.FLOAT, to=ir.DataType.FLOAT)
    y = new.op(
        "MatMulNBits",
        [x, made.weight, made.scales, *([made.zeros] if made.zeros is not None else [])],
        "nbits",
        like=node.outputs[0],
        dtype=ir.DataType.FLOAT,
        domain=MICROSOFT,
        K=made.width,
        N=made.rows,
        bits=made.bits,
        block_size=made.block,
        accuracy_level=accuracy_level,
    )
    if is_half:
        y = new.op("Cast", [y], "narrow", like=node.outputs[0], to=found.dtype)
    y, old, removed = biased(new, y, node, found, shift)
    return Edit(
        f"{made.bits}-bit weight in blocks of {made.block}",
        remove=removed,
        insert=new.nodes,
        initializers=[*made.new_initializers(), *new.initializers],
        replace={old: y},
        before=node,
    )


def biased(
    new: Nodes, y: ir.Value, node: ir.Node, found: ConstantMatrix, shift: NDArray[np.float32] | None
) -> tuple[ir.Value, ir.Value, tuple[ir.Node, ...]]:
    """`y`, a product in the place of `node`'s, with the bias of that and `shift` [N].

    The bias is that which `bias_after` finds, where something is to go into it. Also the value that the sum
    stands for, and the nodes that it takes the place of.
    """
    old, removed, bias = node.outputs[0], tuple(found.removed), found.bias
    if shift is not None:
        into = bias_after(node, found)
        behind = only_user(old) if into is not None and bias is None else None
        if behind is not None:
            old, removed = behind.outputs[0], (*removed, behind)
        if into is not None:
            assert into.const_value is not None
            bias = new.weight(ir.tensor(into.const_value.numpy() + shift), f"{into.name}~corrected")
        else:
            moved = new.constant(shift, np.float32, "correction")
            y = new.op("Add", [y, moved], "corrected", like=node.outputs[0])
    if bias is not None:
        y = new.op("Add", [y, bias], "bias", like=old)
    return y, old, removed


def gathered(node: ir.Node, made: BlockWeight) -> Edit:
    """The rows that the Gather `node` takes, from packed bytes."""
    new = Nodes(node.name or "Gather")
    ids, old = node.inputs[1], node.outputs[0]
    assert ids is not None
    assert ids.shape is not None
    rows = looked_up(new, ids, made, old)
    if old.dtype != ir.DataType.FLOAT:
        rows = new.op("Cast", [rows], "narrow", like=old, to=old.dtype)
    return Edit(
        "rows from packed bytes",
        remove=[node],
        insert=new.nodes,
        initializers=[*made.new_initializers(), *new.initializers],
        replace={old: rows},
        assumes=_have_rows(ids, made.rows),
    )


def looked_up(new: Nodes, ids: ir.Value, made: BlockWeight, like: ir.Value | None = None) -> ir.Value:
    """The rows `ids` of `made`, float32 [..., width], of `like`'s shape; they end with a block."""
    return _whole_rows(new, ids, made) if made.zeros is not None else _rows_of_blocks(new, ids, made, like)


def _rows_of_blocks(new: Nodes, ids: ir.Value, made: BlockWeight, like: ir.Value | None) -> ir.Value:
    """The kernel gives [..., blocks, block]. It wants scales of the data's rank."""
    scales = new.weight(_reshaped(made.scales, (made.rows, -1, 1)), f"{made.scales.name}/spread")
    blocks = _from_blocks(new, [made.weight, ids, scales], made, 2)
    assert ids.shape is not None
    shape = new.constant([0] * len(ids.shape) + [made.width], np.int64, "shape")
    return new.op("Reshape", [blocks, shape], "rows", like=like, dtype=ir.DataType.FLOAT)


def _whole_rows(new: Nodes, ids: ir.Value, made: BlockWeight) -> ir.Value:
    """Zero points are packed along the row, so the data has to be a row too."""
    weight = new.weight(_reshaped(made.weight, (made.rows, -1)), f"{made.weight.name}/rows")
    return _from_blocks(new, [weight, ids, made.scales, made.zeros], made, 1)


def _from_blocks(new: Nodes, inputs: list[ir.Value | None], made: BlockWeight, axis: int) -> ir.Value:
    return new.op(
        "GatherBlockQuantized",
        inputs,
        "nbits",
        dtype=ir.DataType.FLOAT,
        domain=MICROSOFT,
        gather_axis=0,
        quantize_axis=axis,
        block_size=made.block,
        bits=made.bits,
    )


def _reshaped(value: ir.Value, shape: tuple[int, ...]) -> LazyTensor:
    """The same bytes, which are stored once, whatever their shape; -1 is what is left of it."""
    assert value.const_value is not None
    expr = lazy(value.const_value)
    rest = prod(expr.shape) // prod(size for size in shape if size > 0)
    return LazyTensor(Reshaped(expr, tuple(rest if size < 0 else size for size in shape)))


def _have_rows(ids: ir.Value, rows: int) -> list[Assumption]:
    """That ids which the caller gives have rows. Gather fails where there is none; the kernel gives zeros."""
    while (node := ids.producer()) is not None and node.op_type in _SAME_NUMBERS and not node.domain:
        assert node.inputs[0] is not None
        ids = node.inputs[0]
    if not ids.is_graph_input() or ids.name is None:
        return []
    text = f"{ids.name} holds numbers below {rows}, the rows of a table"
    return [Assumption(f"{ids.name}-below-{rows}", text, below={ids.name: rows})]
