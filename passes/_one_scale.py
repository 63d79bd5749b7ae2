"""Channels that one scale, known beforehand, is to serve: moved, divided, the largest of them in parts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from graphopt.calibrate import Ranges
from graphopt.ir import ConstantMatrix, InMemory, LazyTensor, Scaled, Transposed
from graphopt.pipeline import Edit, Nodes

from ._block_nodes import biased
from ._split_channels import parts_of, split_channels

__all__ = ["PRODUCERS", "divided", "for_one_scale", "made_by"]

Floats = NDArray[np.float32]
Products = Sequence[tuple[ir.Node, ConstantMatrix]]

_NORM = (0.9, 0.1)
PRODUCERS = {"Attention": (0.5, 0.25), "Gelu": (0.25, 0.25)}
"""Beside norms, and SmoothQuant's exponents of a channel's largest entry and of its weights' (Xiao et al.
2023, arXiv 2211.10438). By hand, in PyTorch, all products of all-MiniLM-L6-v2 in 8 bits by GPTQ but one: the
mean of the lowest 12 of 256 sentences is 0.99866 with those of norms (0.99858 with 0.75 and 0.25, 0.99846
with 0.5 and 0), 0.99867 with these behind attention (0.99858 with none) and 0.99873 behind Gelu."""
_MORE, _CHANNELS = 16, 384
"""So many parts more of so many channels behind Gelu. By hand, in PyTorch, with those products of
all-MiniLM-L6-v2 alone in 8 bits, 1,536 channels each, the least of 128 sentences is 0.9929 without any and
0.9987 with 16; with all products the mean of 256 is 0.9993 with 16 and 0.9994 with 64."""
_WORTH = 0.75  # a judgement: of the largest, what parts have to come below


def made_by(x: ir.Value) -> ir.Node | None:
    """What makes `x`, which is an attention where heads are only put beside each other behind it."""
    node = made = x.producer()
    while node is not None and node.op_type in ("Reshape", "Transpose") and node.inputs[0] is not None:
        node = node.inputs[0].producer()
    return node if node is not None and node.op_type == "Attention" else made


def for_one_scale(x: ir.Value, products: Products, ranges: Ranges) -> Edit:
    """`x` [..., K], which a norm, an attention or Gelu makes and `products` read, for one scale."""
    made = made_by(x)
    assert made is not None
    is_norm = made.op_type not in PRODUCERS
    middle: Floats = np.zeros_like(ranges.low)
    if is_norm:
        middle = (ranges.low + ranges.high) / np.float32(2)
    largest = np.maximum(np.maximum(ranges.high - middle, middle - ranges.low), 1e-6)
    of_channels, of_weights = _NORM if is_norm else PRODUCERS[made.op_type]
    factors = largest**of_channels / _largest_weights(products) ** of_weights
    factors = (factors / np.exp(np.log(factors).mean())).astype(np.float32)
    if made.op_type == "Gelu":
        counts = parts_of(largest / factors, _MORE * -(-len(largest) // _CHANNELS))
        if (largest / factors / counts).max() < (largest / factors).max() * _WORTH:
            edit = split_channels(made, counts, factors)
            if isinstance(edit, Edit):
                return edit
    return divided(x, products, factors, middle if is_norm else None)


def _largest_weights(products: Products) -> Floats:
    """Of each channel, over all products."""
    each = [np.abs(found.rows.read()).max(0) for _, found in products]
    largest: Floats = np.maximum(np.max(each, axis=0), 1e-6)
    return largest


def divided(x: ir.Value, products: Products, factors: Floats, middle: Floats | None = None) -> Edit:
    """y = (x / s) (s * W), or (x - m) / s (s * W) + m W with a `middle` m."""
    make = Nodes(x.name or "norm")
    smooth = x
    if middle is not None:
        zeros = make.weight(ir.tensor(middle.astype(np.float32)), f"{x.name}/middle")
        smooth = make.op("Sub", [x, zeros], "moved", like=x)
    inverse = make.weight(ir.tensor(1 / factors), f"{x.name}/inverse")
    smooth = make.op("Mul", [smooth, inverse], "smooth", like=x)
    removed: list[ir.Node] = []
    replace = {}
    for node, found in products:
        weight = make.weight(
            LazyTensor(Transposed(Scaled(found.rows, InMemory(factors), 1), (1, 0))), f"{found.name}/scaled"
        )
        new = Nodes(f"{node.name}/smooth")
        y = make.op("MatMul", [smooth, weight], f"{node.name}/smooth", like=node.outputs[0])
        shift = None if middle is None else (found.rows.read() @ middle).astype(np.float32)
        y, old, gone = biased(new, y, node, found, shift)
        make.nodes += new.nodes
        make.initializers += new.initializers
        removed += gone
        replace[old] = y
    return Edit(
        f"channels evened out for {len(products)} products",
        remove=removed,
        insert=make.nodes,
        initializers=make.initializers,
        replace=replace,
        before=products[0][0],
    )
