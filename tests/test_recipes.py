"""What the recipes' budgets allow."""

from __future__ import annotations

from pathlib import Path

import pytest

import graphopt
from graphopt import registry
from graphopt.pipeline import load_recipe

LOSSY = [name for name, path in registry.recipes().items() if not load_recipe(str(path)).budget.lossless]


@pytest.mark.slow
@pytest.mark.parametrize("recipe", LOSSY)
def test_a_budget_is_at_most_half_more_than_what_tiny_coder_needs(
    recipe: str, tiny_coder: Path, tmp_path: Path
) -> None:
    package = graphopt.optimize(tiny_coder, tmp_path / "out", recipe=recipe, verify="structure")
    on_text = [c for c in package.report().closing.comparisons if c.case.startswith("held-out text")]

    assert {c.metric for c in on_text} == {"kl_mean", "kl_p99"}
    assert {c.metric: c.bound / c.value for c in on_text if not 1 < c.bound / c.value <= 1.5} == {}
