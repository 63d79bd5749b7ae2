"""What a rounded weight is off by on average, to be taken from the bias.

Nagel et al. 2019 (arXiv 1906.04721), section 4.2: E[W x] - E[Wq x] = (W - Wq) E[x].
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from graphopt.calibrate import RowSample, Stream
from graphopt.ir import Blocks, ConstantMatrix, const_of, lazy, static_dim, tiles
from graphopt.pipeline import Context

from ._block_nodes import BlockWeight, bias_after

__all__ = ["BiasCorrection"]

Floats = NDArray[np.float32]

_SAMPLED = 512  # rows of activations, by which the power of the error is estimated. A judgement
_WORTH = 0.02
"""Share of a product's error that has to go for a bias to be added where there is none. A judgement."""
_HELD_OUT = 4  # one call of so many


class BiasCorrection:
    """Corrections of the products of a graph, asked for in its order."""

    def __init__(self, context: Context, step: str) -> None:
        self._context, self._stream = context, context.stream()
        if isinstance(self._stream, str):
            context.note(f"{step}: biases are corrected behind LayerNormalization alone: {self._stream}")

    def of(self, node: ir.Node, found: ConstantMatrix, made: BlockWeight) -> Floats | None:
        """What to add to the results [N] of the product `node`, whose rounded weight is `made`.

        None where that would not lower the error of calls it was not learned from; where there is no bias
        that it could go into, unless it lowers it by a fiftieth; where nothing is known of what is read.
        """
        if found.dtype != ir.DataType.FLOAT:
            return None
        if isinstance(self._stream, Stream) and self._stream.refuses(found.x) is None:
            key = ["bias", found.name, found.x.name or ""]
            return self._context.remember(key, lambda: self._measured(node, found, made)).get("shift")
        mean = _known_mean(found.x)
        if mean is None or bias_after(node, found) is None:
            return None
        return np.concatenate([tile @ mean for tile in _off(found, made)])

    def _measured(self, node: ir.Node, found: ConstantMatrix, made: BlockWeight) -> dict[str, NDArray[Any]]:
        width = found.rows.shape[1]
        assert isinstance(self._stream, Stream)
        sums, counts, sample = np.zeros((2, width)), np.zeros(2), RowSample(width, _SAMPLED)
        for index, (array,) in enumerate(self._stream.values([found.x])):
            rows = array.reshape(-1, width)
            held = int(index % _HELD_OUT == _HELD_OUT - 1)
            sums[held] += rows.sum(0, dtype=np.float64)
            counts[held] += len(rows)
            sample.add(rows)
        if not counts.all():
            return {}
        seen, held_out = (sums / counts[:, None]).astype(np.float32)
        parts = [
            (off @ seen, off @ held_out, np.square(sample.sample @ off.T).mean(0))
            for off in _off(found, made)
        ]
        shift, other, power = (np.concatenate(column) for column in zip(*parts, strict=True))
        gain = float(np.square(other).sum() - np.square(other - shift).sum())
        least = 0.0 if bias_after(node, found) is not None else _WORTH * float(power.sum())
        return {"shift": shift} if gain > least else {}


def _off(found: ConstantMatrix, made: BlockWeight) -> Iterator[Floats]:
    """W - Wq, some rows after the others."""
    held = [
        None if v is None or v.const_value is None else lazy(v.const_value)
        for v in (made.weight, made.scales)
    ]
    assert held[0] is not None
    assert held[1] is not None
    zeros = None if made.zeros is None or made.zeros.const_value is None else lazy(made.zeros.const_value)
    rounded = Blocks(held[0], held[1], zeros, made.bits, made.block, made.width)
    for rows, tile in tiles(found.rows):
        yield tile - rounded.read((rows, slice(0, made.width)))


def _known_mean(x: ir.Value) -> Floats | None:
    """What the channels of a LayerNormalization are about: its bias."""
    node = x.producer()
    if node is None or node.op_type != "LayerNormalization" or len(node.inputs) < 3:
        return None
    bias = const_of(node.inputs[2])
    return bias.astype(np.float32) if bias is not None and bias.shape == (static_dim(x, -1),) else None
