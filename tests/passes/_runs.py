"""Running passes over a `canonical_decoder`, and the result beside it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from graphopt.families import Case
from graphopt.interface import adapt_feeds, adapt_results
from graphopt.pipeline import Context, RunResult
from graphopt.plugins import run_recipe
from graphopt.recipes import Budget, Recipe, Step
from graphopt.targets import Target
from graphopt.testing import outputs, session
from tests.passes._canonical import Domain, Shape, canonical_decoder

Array = np.ndarray[Any, Any]
LOWERING = ("last-token-head", "lower-attention", "lower-skip-norm", "lower-quick-gelu")


class Lowered:
    """A `canonical_decoder` before and after `steps`."""

    def __init__(self, shape: Shape, *steps: str | Step, target: Target | None = None) -> None:
        self.shape = shape
        self.model = canonical_decoder(shape)
        self.context = Context(self.model, domain=Domain(shape), task="text-generation", target=target)
        chain = tuple(step if isinstance(step, Step) else Step(step) for step in steps)
        recipe = Recipe("test", "", Budget(), chain)
        self.result: RunResult = run_recipe(self.model, recipe, self.context)
        self._before = session(canonical_decoder(shape))
        self._after = session(self.model)

    @property
    def operators(self) -> Counter[str]:
        return Counter(node.op_type for node in self.model.graph)

    def near_misses(self) -> set[str]:
        return {miss.reason for record in self.result.records for miss in record.near_misses}

    def error(self, case: Case) -> float:
        """The largest difference where an output is specified, in standard deviations of that output."""
        before = outputs(self._before, case.feeds)
        after = self.run(case.feeds)
        return max(_difference(before[name], after[name], case.compare[name]) for name in before)

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        adapters = self.result.adapters
        return adapt_results(adapters, outputs(self._after, adapt_feeds(adapters, feeds)))


def _difference(expected: Array, got: Array, compared: Array) -> float:
    assert expected.shape == got.shape
    where = np.broadcast_to(compared, expected.shape)
    if not where.any():
        return 0.0
    largest = np.abs(expected - got)[where].max()
    return float("inf") if np.isnan(largest) else float(largest / expected[where].std())
