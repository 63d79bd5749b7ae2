"""smooth-activations: channels of one range, so that one scale serves them all."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir

from graphopt.ir import ConstantMatrix, InMemory, LazyTensor, Scaled, Transposed, constant_matrix, consumers
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
_UNEVEN = 4.0  # a judgement: two of eight bits lost. Norms that need it are tens of times apart


class SmoothActivations(Pass):
    """What a norm makes is divided by a factor for each channel, and the weights behind it are multiplied.

    Before: y = MatMul(x, W), x from a norm, its channels' largest entries far apart
    After:  y = MatMul(Mul(x, 1/s), s * W); s the root of each channel's largest entry (SmoothQuant, Xiao et
            al. 2023, arXiv 2211.10438, with the weights' part left out)
    A few channels of text encoders are tens of times larger than the rest, whatever the text; rounding to 8
    bits with one scale then spoils the rest. The arithmetic is the same, in another order. Other uses keep x.
    Refuses: models with a cache, or without known inputs; even channels. Values that no norm makes are left
    alone: their outliers come and go with the text.
    """

    name: ClassVar[str] = "smooth-activations"
    level: ClassVar[Level] = Level.COMPRESS
    contract: ClassVar[Contract] = Contract.reassociates()
    opsets: ClassVar[OpsetRange] = OpsetRange(17, None)
    main_graph_only: ClassVar[bool] = True

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        found = {n.outputs[0]: products for n in graph if n.op_type in _NORMS and (products := _products(n))}
        if not found:
            return
        calibration = Calibration.of(context, next(iter(found)))
        if isinstance(calibration, str):
            yield NearMiss(next(iter(found)).name or "norm", calibration)
            return
        ranges = [np.abs(array.reshape(-1, array.shape[-1])).max(0) for array in calibration.values(found)]
        for x, channels in zip(found, ranges, strict=True):
            largest = np.maximum(channels, 1e-6)
            if largest.max() < _UNEVEN * np.median(largest):
                yield NearMiss(x.name or "norm", "no channel is much larger than the others")
                continue
            root = np.sqrt(largest / np.exp(np.log(largest).mean()))
            yield _smoothed(x, found[x], root.astype(np.float32))


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
