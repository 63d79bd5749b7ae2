"""A recipe as configured passes, and a run of them."""

from __future__ import annotations

from collections import Counter

import onnx_ir as ir

from graphopt.pipeline import Context, Pass, PassCrashed, RunHooks, RunResult, run_steps
from graphopt.plugins import registry
from graphopt.recipes import OptimizeOptions, Recipe, Step

__all__ = ["build_steps", "run_recipe"]


def build_steps(recipe: Recipe) -> list[tuple[str, Pass]]:
    """Configured passes with their step names: `pass`, and `pass#2` from the second use on."""
    seen: Counter[str] = Counter()
    built = []
    for step in recipe.steps:
        seen[step.name] += 1
        built.append(
            (_step_name(step, seen[step.name]), registry.resolve("pass", step.name, registry.passes()))
        )
    return [
        (name, cls.configure(step.options)) for (name, cls), step in zip(built, recipe.steps, strict=True)
    ]


def _step_name(step: Step, occurrence: int) -> str:
    return step.name if occurrence == 1 else f"{step.name}#{occurrence}"


def run_recipe(
    model: ir.Model,
    recipe: Recipe,
    context: Context,
    options: OptimizeOptions | None = None,
    hooks: RunHooks | None = None,
    result: RunResult | None = None,
) -> RunResult:
    """Run every step of `recipe` over `model` in place, as `graphopt.pipeline.run_steps` does.

    Where the code of a pass fails, the plugin that brings it is to blame: `EnvironmentProblem`. What fails in
    graphopt's own is raised as it is.
    """
    try:
        return run_steps(model, build_steps(recipe), context, options, hooks, result)
    except PassCrashed as crashed:
        with registry.answerable(crashed.cls):
            raise crashed.error from None
