"""Factors for the channels of a value that products read, searched for on real inputs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from graphopt.calibrate import AbsoluteMean, RowSample, Stream
from graphopt.ir import tiles
from graphopt.pipeline import Context

from ._forms import Form
from ._products import Product
from ._scale_search import Seen, Weight, chosen_steps

__all__ = ["steps_for"]

_SAMPLED = 512  # rows of activations, half to choose by and half to judge by. A judgement
_ROWS = 1024  # rows of a weight that are rounded on trial: of a larger one, evenly spaced ones


def steps_for(
    products: Sequence[Product],
    x: ir.Value,
    form: tuple[int, int],
    stream: Stream | str | None,
    context: Context,
    groups: Sequence[int] = (),
) -> list[int] | None:
    """As `chosen_steps`, for `products` of `x` in what was planned for them, or `form`, bits and block.

    Without a stream the weights alone decide.
    """
    planned = context.decisions.get("plan-bits", {})
    weights = [
        Weight(_some_rows(p), Form.parse(planned[p.matrix.name]) if p.matrix.name in planned else Form(*form))
        for p in products
    ]
    width = products[0].rows.shape[1]
    if not isinstance(stream, Stream):
        return chosen_steps(weights, Seen(np.ones(width, np.float32)), groups)
    mean, rows = AbsoluteMean(width), RowSample(width, _SAMPLED)
    for (array,) in stream.values([x]):
        mean.add(array)
        rows.add(array)
    return chosen_steps(weights, Seen(mean.mean, rows.sample[::2], rows.sample[1::2]), groups)


def _some_rows(product: Product) -> NDArray[np.float32]:
    """Rows of its weight, evenly spaced."""
    step = -(-product.rows.shape[0] // _ROWS)
    return np.concatenate([tile[-rows.start % step :: step] for rows, tile in tiles(product.rows)])
