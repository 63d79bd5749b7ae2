"""Whether a package keeps the budget that its weights were planned for."""

from __future__ import annotations

from typing import Any

from graphopt.build._documents import remove_documents, write_all_documents
from graphopt.build._job import Job
from graphopt.evaluate import BUDGET, FACTS, CheckedMetric, ClosingCheck, bench, measure_facts
from graphopt.metrics import Exact
from graphopt.package import RunnablePackage
from graphopt.plan import PLAN, Plan, corrected, keeps

__all__ = ["hold_to_budget", "replanned"]

_DAMAGE, _SIZE = "kl_mean", "package_bytes"
_ROUNDS = 3
"""Of two processes each: enough for a median."""


def hold_to_budget(job: Job) -> None:
    """Measure what the plan of `job` bounds, and have the closing check hold its package to that.

    Damage it is held to as it is.
    """
    for decisions in _planned(job):
        plan = Plan.model_validate(decisions[PLAN])
        measured = _measured(job, plan)
        plan = plan.model_copy(update={"measured": measured})
        decisions[PLAN] = plan.model_dump(mode="json")
        if job.cache is not None:
            options = next(step.options for step in job.recipe.steps if step.name == plan.step)
            job.cache.keep_plan({"options": dict(options), PLAN: decisions[PLAN]})
        metrics = tuple(
            CheckedMetric(BUDGET, "package", metric, measured[metric], bound)
            for metric, bound in plan.bounds.items()
            if metric != _DAMAGE
        )
        if metrics:
            kept = all(one.holds for one in metrics)
            job.closing = job.closing.and_then(ClosingCheck("passed" if kept else "failed", metrics=metrics))


def replanned(job: Job) -> dict[str, Any] | None:
    """The decisions of `job` with plans that are corrected by what its package was measured to have.

    None where its budget is kept. Raises `CheckFailed` where it cannot be, by what is known now.
    """
    anew = False
    for decisions in _planned(job):
        plan = Plan.model_validate(decisions[PLAN])
        if not keeps(plan, plan.measured):
            plan = corrected(plan, plan.measured)
            decisions |= {PLAN: plan.model_dump(mode="json"), plan.step: dict(plan.forms)}
            anew = True
    return job.decisions() if anew else None


def _planned(job: Job) -> list[dict[str, Any]]:
    """Decisions with a plan."""
    return [graph.context.decisions for graph in job.graphs if PLAN in graph.context.decisions]


def _measured(job: Job, plan: Plan) -> dict[str, float]:
    """By metric: the damage, if that was measured, and everything else that is bounded."""
    found = {
        one.metric: one.value
        for one in job.closing.metrics
        if one.metric == _DAMAGE and one.bound == job.recipe.budget.kl_mean
    }
    write_all_documents(job)
    package = RunnablePackage.load(job.staging.package)
    for sample in measure_facts(package, None, metrics=[m for m in plan.bounds if m in FACTS]):
        assert isinstance(sample.evidence, Exact)
        found[sample.metric] = sample.evidence.value
    timed = set(plan.bounds) - {*FACTS, _DAMAGE}
    if timed:
        with job.clock.phase("check", "measuring speed and memory"):
            speed = bench(package.path, rounds=_ROUNDS).speed
        found |= {metric: speed.metrics[metric].value for metric in timed}
    remove_documents(job)
    return found
