"""smooth-activations: channels of one range, so that one scale serves them all."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir

from graphopt.calibrate import Ranges
from graphopt.ir import ConstantMatrix, constant_matrix, consumers, static_dim
from graphopt.pipeline import Calibration, Context, Contract, Edits, Level, NearMiss, OpsetRange, Pass

from ._calibrated import with_drawn
from ._one_scale import PRODUCERS, divided, for_one_scale, made_by

_NORMS = (
    "LayerNormalization",
    "RMSNormalization",
    "SkipLayerNormalization",
    "SkipSimplifiedLayerNormalization",
)
_UNEVEN = 4.0  # a judgement: two of eight bits lost. Norms that need it are tens of times apart
_UNEVEN_FOR_ONE = 2.0  # where one scale serves all texts: one bit


class SmoothActivations(Pass):
    """What a norm makes is divided by a factor for each channel, and the weights behind it are multiplied.

    Before: y = MatMul(x, W), x from a norm, its channels' largest entries far apart
    After:  y = MatMul(Mul(x, 1/s), s * W); s the root of each channel's largest entry (SmoothQuant, Xiao et
            al. 2023, arXiv 2211.10438, with the weights' part left out)
    A few channels of text encoders are tens of times larger than the rest, whatever the text; rounding to 8
    bits with one scale then spoils the rest. The arithmetic is the same, in another order. Other uses keep x.
    Where a target wants scales beforehand, one scale serves all texts, and by calibration data more is done:
    y = MatMul(Mul(Sub(x, m), 1/s), s * W) + m W behind norms, m the middle of each channel; without m behind
    attention and Gelu, of which the largest channels become several equal parts, too (`split_channels`).
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
        kinds = (*_NORMS, *PRODUCERS) if static else _NORMS
        found = {
            node.outputs[0]: products
            for node in graph
            if (made := made_by(node.outputs[0])) and made.op_type in kinds and (products := _products(node))
        }
        if not found:
            return
        ranges = _ranges(found, context)
        if isinstance(ranges, str):
            yield NearMiss(next(iter(found)).name or "norm", ranges)
            return
        for x, channels in zip(found, ranges, strict=True):
            largest = np.maximum(channels.largest, 1e-6)
            if largest.max() < (_UNEVEN_FOR_ONE if static else _UNEVEN) * np.median(largest):
                yield NearMiss(x.name or "norm", "no channel is much larger than the others")
                continue
            if static:
                yield for_one_scale(x, found[x], channels)
                continue
            factors = np.sqrt(largest / np.exp(np.log(largest).mean()))
            yield divided(x, found[x], factors.astype(np.float32))


def _wants_static(context: Context) -> bool:
    target = context.target
    return target is not None and target.capabilities().static_scales()


def _ranges(found: Collection[ir.Value], context: Context) -> list[Ranges] | str:
    """Those of each value, in their order in the graph; or why there are none."""
    static = _wants_static(context) and not context.states
    stream = context.stream(data=with_drawn(context)) if static else ""
    if isinstance(stream, str):
        calibration = Calibration.of(context, next(iter(found)))
        if isinstance(calibration, str):
            return calibration
        return [_seen(array) for array in calibration.values(found)]
    ranges = []
    for value in found:
        width = static_dim(value, -1)
        if width is None:
            return "how many channels it has is unknown"
        each = Ranges(width)
        for (array,) in stream.values([value]):
            each.add(array)
        ranges.append(each)
    return ranges


def _seen(array: Any) -> Ranges:
    found = Ranges(array.shape[-1])
    found.add(array)
    return found


def _products(norm: ir.Node) -> list[tuple[ir.Node, ConstantMatrix]]:
    """The products of what `norm` makes and a constant."""
    x = norm.outputs[0]
    found = [(node, constant_matrix(node)) for node in consumers(x) if node.inputs[0] is x]
    return [(node, m) for node, m in found if isinstance(m, ConstantMatrix)]
