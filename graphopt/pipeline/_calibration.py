"""Values inside a model on legal inputs, and what it says when one of them is another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from graphopt.calibrate import Branches
from graphopt.metrics import cosine_similarity
from graphopt.pipeline._context import Context

__all__ = ["Calibration"]

Array = np.ndarray[Any, Any]
_ROWS = 576
"""Of a product: what 96 texts of six tokens make. One call of some models makes more, all at once."""
_DRAWS = 32
"""Typical calls at most: what makes a row of each sample, a classifier's head, gets no more of them."""


class Calibration:
    """One large call made of the input domain's typical ones, their samples put together; not with a cache.

    Inputs are drawn at random: for the ranges of a model's channels that is nearly as good as text. The graph
    is run a piece after the other: only values that are still to be read are held, and weights once.
    """

    def __init__(self, graph: ir.Graph, feeds: Mapping[str, Array]) -> None:
        floats = [v for v in graph.outputs if v.dtype is None or v.dtype.is_floating_point()]
        self._branches = Branches(graph, [feeds], floats or graph.outputs)
        self._plain: list[Array] | None = None

    @classmethod
    def of(cls, context: Context, value: ir.Value) -> Calibration | str:
        """As many samples as make `value` have enough rows, for the model at hand; or why there are none.

        They are drawn where it is known what is legal, and else those that there are to calibrate on.
        """
        if context.states:
            return "the model has a cache: its products have few rows, and blocks serve them better"
        graph, drawn = context.model.graph, _drawn(context)
        if isinstance(drawn, str):
            return drawn
        first = next(drawn, None)
        if first is None:
            return "the input domain has no batch without padding"
        samples = min(map(len, first.values()))
        (array,) = cls(graph, first).values([value])
        rows = array.size // array.shape[-1]
        wanted = -(-_ROWS * samples // rows)
        calls = [first, *islice(drawn, -(-wanted // samples) - 1)]
        return cls(graph, {name: np.concatenate([feeds[name] for feeds in calls])[:wanted] for name in first})

    def values(self, wanted: Iterable[ir.Value]) -> Iterator[Array]:
        """What each of `wanted` is in this call, one after the other, in the order of the graph."""
        for value in wanted:
            self._branches.advance([value])
            yield self._branches.values(value)[0]

    def damage(self, changed: ir.Value, array: Array) -> NDArray[np.float64]:
        """float64[outputs]: 1 less the mean cosine of the rows of each where `changed` is `array`.

        Outputs in floats count, or all where there are none of those. `changed` comes after the values that
        were asked for so far, or is one of them.
        """
        if self._plain is None:
            (self._plain,) = self._branches.ends({})
        (got,) = self._branches.ends({changed: [array]})
        pairs = zip(self._plain, got, strict=True)
        cosines = [cosine_similarity(*map(np.atleast_1d, pair)) for pair in pairs]
        return np.asarray([1.0 - cosine.mean() for cosine in cosines])


def _drawn(context: Context) -> Iterator[Mapping[str, Array]] | str:
    """Calls whose samples can be put together, or one that cannot be."""
    domain = context.domain
    if domain is not None:
        seeds = range(_DRAWS)
        return (case.feeds for seed in seeds for case in domain.typical(np.random.default_rng(seed)))
    calls = context.calls()
    if isinstance(calls, str):
        return f"nothing is known about legal inputs, and {calls}"
    shapes = [v.shape for v in context.model.graph.inputs if v.name in calls[0]]
    firsts = {shape[0] if shape else None for shape in shapes}
    if len(firsts) > 1 or any(isinstance(size, int | None) for size in firsts):
        return iter(calls[:1])
    alike = [c for c in calls if all(a.shape[1:] == calls[0][name].shape[1:] for name, a in c.items())]
    return iter(alike[:_DRAWS])
