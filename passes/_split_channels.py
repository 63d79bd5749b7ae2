"""Channels that are far larger than the rest, each in several equal parts: one scale then serves all.

Outlier channel splitting (Zhao et al. 2019, arXiv 1901.09504). Dividing a channel and multiplying its weights
instead makes the steps of all outputs larger that these weights are in.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from graphopt.ir import InMemory, LazyTensor, Scaled, Taken, Transposed, lazy
from graphopt.pipeline import Edit, Nodes

from ._columns import Columns, columns_of
from ._products import Product, products_of, used_elsewhere

__all__ = ["parts_of", "split_channels"]


def parts_of(largest: NDArray[np.float32], more: int) -> NDArray[np.int64]:
    """int64 [n]: in how many parts each of n channels is, `more` in all than n, whichever is largest next."""
    counts = np.ones(len(largest), np.int64)
    for _ in range(more):
        counts[np.argmax(largest / counts)] += 1
    return counts


def split_channels(node: ir.Node, counts: NDArray[np.int64], factors: NDArray[np.float32]) -> Edit | str:
    """`node`, a function of single elements of x U + b, with so many parts of each channel; or why not.

    A channel in n parts has n columns of U, what is made of each is divided by n, and its row of what comes
    behind is there n times. Each is also divided by its one of `factors`, and the row multiplied.
    """
    made, readers = columns_of(node.inputs[0]), products_of(node.outputs[0])
    for found in (made, readers):
        if isinstance(found, str):
            return found
    assert isinstance(made, Columns)
    assert not isinstance(readers, str)
    if made.split is not None:
        return "it is made of a part of what a product makes"
    return used_elsewhere([*readers, made.product]) or _edit(node, made, readers, counts, factors)


def _edit(
    node: ir.Node,
    made: Columns,
    readers: Sequence[Product],
    counts: NDArray[np.int64],
    factors: NDArray[np.float32],
) -> Edit:
    make, places = Nodes(node.name or node.op_type), np.repeat(np.arange(len(counts)), counts)
    shape = [*(node.outputs[0].shape or ())[:-1], len(places)]
    taken = InMemory(places)
    rows = Taken(made.product.rows, taken, 0)
    matrix, dtype = made.product.matrix, node.outputs[0].dtype
    weight = make.weight(LazyTensor(Transposed(rows, (1, 0))), f"{matrix.name}~parts")
    x = make.op("MatMul", [matrix.x, weight], "parts", dtype=dtype, shape=shape)
    bias = made.bias or matrix.bias
    if bias is not None:
        assert bias.const_value is not None
        added = make.weight(LazyTensor(Taken(lazy(bias.const_value), taken, 0)), f"{bias.name}~parts")
        x = make.op("Add", [x, added], "parts-bias", dtype=dtype, shape=shape)
    (x,) = make.copy(node, [x], "in-parts")
    x.shape = ir.Shape(shape)
    share = make.weight(
        ir.tensor((1 / (counts * factors)[places]).astype(np.float32)), f"{node.outputs[0].name}/share"
    )
    x = make.op("Mul", [x, share], "share", dtype=dtype, shape=shape)
    replace = {}
    for reader in readers:
        rows = Taken(Scaled(reader.rows, InMemory(factors), 1), taken, 1)
        replace[reader.output] = reader.again(make, x, rows, "parts")
    return Edit(
        f"{len(places) - len(counts)} parts of channels more",
        remove=[*made.removed, node, *dict.fromkeys(n for p in readers for n in p.removed)],
        insert=make.nodes,
        initializers=make.initializers,
        replace=replace,
        before=node,
    )
