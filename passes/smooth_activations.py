"""smooth-activations: channels of one range, so that one scale serves them all."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from graphopt.calibrate import Ranges
from graphopt.ir import (
    ConstantMatrix,
    InMemory,
    LazyTensor,
    Scaled,
    Transposed,
    constant_matrix,
    consumers,
    static_dim,
)
from graphopt.pipeline import (
    Calibration,
    Context,
    Contract,
    Edit,
    Edits,
    Level,
    NearMiss,
    Nodes,
    OpsetRange,
    Pass,
)

_NORMS = (
    "LayerNormalization",
    "RMSNormalization",
    "SkipLayerNormalization",
    "SkipSimplifiedLayerNormalization",
)
_GELU = "Gelu"
_ACTIVATIONS = 0.75
"""SmoothQuant's exponent where one scale serves all texts. With those products of all-MiniLM-L6-v2 in 8 bits
that are behind norms, the least cosine of 40 sentences is 0.9993; with exponents of 0.5 and 0.25, in the
place of 0.75 and 0.25, 0.9989; of 1 and 0 0.9975 (by hand, in PyTorch)."""
_UNEVEN = 4.0  # a judgement: two of eight bits lost. Norms that need it are tens of times apart


class SmoothActivations(Pass):
    """What a norm makes is divided by a factor for each channel, and the weights behind it are multiplied.

    Before: y = MatMul(x, W), x from a norm, its channels' largest entries far apart
    After:  y = MatMul(Mul(x, 1/s), s * W); s the root of each channel's largest entry (SmoothQuant, Xiao et
            al. 2023, arXiv 2211.10438, with the weights' part left out)
    A few channels of text encoders are tens of times larger than the rest, whatever the text; rounding to 8
    bits with one scale then spoils the rest. The arithmetic is the same, in another order. Other uses keep x.
    Where a target wants scales beforehand, what Gelu makes is evened out, too, by calibration data, and more
    behind norms: one scale for all texts loses more there than weights do by it.
    Refuses: models with a cache, or without known inputs; even channels. Values that no norm makes are left
    alone elsewhere: their outliers come and go with the text.
    """

    name: ClassVar[str] = "smooth-activations"
    level: ClassVar[Level] = Level.COMPRESS
    contract: ClassVar[Contract] = Contract.reassociates()
    opsets: ClassVar[OpsetRange] = OpsetRange(17, None)
    main_graph_only: ClassVar[bool] = True

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        static = _wants_static(context)
        kinds = (*_NORMS, _GELU) if static else _NORMS
        found = {n.outputs[0]: products for n in graph if n.op_type in kinds and (products := _products(n))}
        if not found:
            return
        ranges = _ranges(found, context)
        if isinstance(ranges, str):
            yield NearMiss(next(iter(found)).name or "norm", ranges)
            return
        for x, channels in zip(found, ranges, strict=True):
            largest = np.maximum(channels, 1e-6)
            if largest.max() < _UNEVEN * np.median(largest):
                yield NearMiss(x.name or "norm", "no channel is much larger than the others")
                continue
            factors = np.sqrt(largest / np.exp(np.log(largest).mean()))
            if static and (made := x.producer()) is not None and made.op_type in _NORMS:
                factors = largest**_ACTIVATIONS / _largest_weights(found[x]) ** (1 - _ACTIVATIONS)
                factors /= np.exp(np.log(factors).mean())
            yield _smoothed(x, found[x], factors.astype(np.float32))


def _largest_weights(products: list[tuple[ir.Node, ConstantMatrix]]) -> NDArray[np.float32]:
    """Of each channel, over all products."""
    each = [np.abs(found.rows.read()).max(0) for _, found in products]
    largest: NDArray[np.float32] = np.maximum(np.max(each, axis=0), 1e-6)
    return largest


def _wants_static(context: Context) -> bool:
    target = context.target
    return target is not None and target.capabilities().static_scales()


def _ranges(found: Collection[ir.Value], context: Context) -> list[NDArray[np.float32]] | str:
    """The largest magnitude of each channel of each value, in their order in the graph; or why not."""
    stream = context.stream() if _wants_static(context) and not context.states else ""
    if isinstance(stream, str):
        calibration = Calibration.of(context, next(iter(found)))
        if isinstance(calibration, str):
            return calibration
        return [np.abs(array.reshape(-1, array.shape[-1])).max(0) for array in calibration.values(found)]
    ranges = []
    for value in found:
        width = static_dim(value, -1)
        if width is None:
            return "how many channels it has is unknown"
        each = Ranges(width)
        for (array,) in stream.values([value]):
            each.add(array)
        ranges.append(each.largest)
    return ranges


def _products(norm: ir.Node) -> list[tuple[ir.Node, ConstantMatrix]]:
    """The products of what `norm` makes and a constant."""
    x = norm.outputs[0]
    found = [(node, constant_matrix(node)) for node in consumers(x) if node.inputs[0] is x]
    return [(node, m) for node, m in found if isinstance(m, ConstantMatrix)]


def _smoothed(x: ir.Value, products: list[tuple[ir.Node, ConstantMatrix]], s: Any) -> Edit:
    make = Nodes(x.name or "norm")
    inverse = make.weight(ir.tensor(1 / s), f"{x.name}/inverse")
    smooth = make.op("Mul", [x, inverse], "smooth", like=x)
    removed, replace = [], {}
    for node, found in products:
        weight = make.weight(
            LazyTensor(Transposed(Scaled(found.rows, InMemory(s), 1), (1, 0))), f"{found.name}/scaled"
        )
        y = make.op("MatMul", [smooth, weight], f"{node.name}/smooth", like=node.outputs[0])
        if found.bias is not None:
            y = make.op("Add", [y, found.bias], f"{node.name}/bias", like=node.outputs[0])
        removed += list(found.removed)
        replace[node.outputs[0]] = y
    return Edit(
        f"channels evened out for {len(products)} products",
        remove=removed,
        insert=make.nodes,
        initializers=make.initializers,
        replace=replace,
        before=products[0][0],
    )
