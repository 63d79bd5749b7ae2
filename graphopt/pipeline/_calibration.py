"""Values inside a model on legal inputs, and what it says when one of them is another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from graphopt.ir import evaluate, extract
from graphopt.metrics import cosine_similarity
from graphopt.pipeline._context import Context

__all__ = ["Calibration"]

Array = np.ndarray[Any, Any]
_DRAWS = 32
"""Typical calls that are put together: of texts of six tokens, three a call, 576 rows of each product."""


class Calibration:
    """One large call made of the input domain's typical ones, their rows put together; not with a cache.

    Inputs are drawn at random: for the ranges of a model's channels that is nearly as good as text.
    """

    def __init__(self, context: Context, feeds: Mapping[str, Array]) -> None:
        self._context = context
        self._feeds = dict(feeds)
        self._plain: Array | None = None

    @classmethod
    def of(cls, context: Context) -> Calibration | str:
        """Calibration for the model at hand, or why there is none."""
        if context.domain is None:
            return "nothing is known about legal inputs: nothing can be measured"
        if context.states:
            return "the model has a cache: its products have few rows, and blocks serve them better"
        drawn = [
            case.feeds
            for seed in range(_DRAWS)
            for case in context.domain.typical(np.random.default_rng(seed))
        ]
        if not drawn:
            return "the input domain has no batch without padding"
        return cls(context, {name: np.concatenate([feeds[name] for feeds in drawn]) for name in drawn[0]})

    def values(self, wanted: Sequence[ir.Value]) -> list[Array]:
        """What `wanted` are in this call."""
        return evaluate(extract(self._context.model.graph, wanted), self._feeds)

    def damage(self, changed: ir.Value, array: Array) -> float:
        """1 less the mean cosine of the first output's rows, as they are and where `changed` is `array`."""
        output = self._context.model.graph.outputs[0]
        if self._plain is None:
            (self._plain,) = self.values([output])
        piece = extract(self._context.model.graph, [output], cut=[changed])
        (got,) = evaluate(piece, self._feeds | {changed.name or "": array})
        return 1.0 - float(cosine_similarity(self._plain, got).mean())
