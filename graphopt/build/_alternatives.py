"""Which of the passes that compress serve an .onnx file, by measuring the package beside it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from graphopt.build._job import Job
from graphopt.errors import GraphoptError
from graphopt.evaluate import Beside, Undecided, run_beside
from graphopt.export import ONNX
from graphopt.interface import adapt_feeds
from graphopt.pipeline import LEFT_OUT
from graphopt.plan import PLAN
from graphopt.runtime import default_threads

__all__ = ["settled"]

_COMPRESS = "compress"
Again = Callable[[Job, dict[str, Any]], Job]
"""Makes a job anew, with decisions."""


def settled(job: Job, again: Again) -> Job:
    """`job`, or the first of its recipe's alternatives that has nothing against it; at last in floats.

    What may be said against a package: the closing check, more bytes than the source, more time. Which passes
    are left out is a decision, which a lock replays, and a note of the report.
    """
    if not _has_choice(job):
        return job
    alternatives = iter([*job.recipe.alternatives, tuple(_compressing(job))])
    while (reason := _against(job)) is not None:
        job.notes.append(reason)
        applied = _compressing(job, applied=True)
        # Without a pass that changed nothing the package is the same.
        left = next((names for names in alternatives if applied & set(names)), None)
        if left is None:
            break
        notes = job.notes
        job.clock.say(f"{reason}: once more without {', '.join(sorted(applied & set(left)))}")
        job = again(job, {LEFT_OUT: dict.fromkeys(left, reason)})
        job.notes = [*notes, *job.notes]
    return job


def _has_choice(job: Job) -> bool:
    return bool(
        job.source.kind == ONNX
        and job.recipe.alternatives
        and len(job.graphs) == 1
        and job.options.stop_after is None
        and PLAN not in job.graphs[0].context.decisions
    )


def _compressing(job: Job, *, applied: bool = False) -> set[str]:
    """Names of the passes that compress; with `applied` of those that did."""
    return {
        record.step.partition("#")[0]
        for record in job.graphs[0].result.records
        if record.level == _COMPRESS and (record.applied or not applied)
    }


def _against(job: Job) -> str | None:
    """What is wrong with a package that is compressed, in words."""
    passes = sorted(_compressing(job, applied=True))
    if not passes:
        return None
    name = f"with {', '.join(passes)}"
    if job.closing.verdict == "failed":
        return f"{name} {job.closing.difference()}"
    graph = job.graphs[0]
    size = sum(file.stat().st_size for file in job.staging.package.glob(f"{graph.file}*"))
    before = sum(file.stat().st_size for file in job.files.values())
    if size > before:
        return f"{name} the package takes {size:,} bytes, its source {before:,}"
    for threads in dict.fromkeys((1, default_threads())):
        found = _beside(job, threads)
        if found is not None and found.slower:
            on = "one thread" if threads == 1 else f"{threads} threads"
            return (
                f"{name} the package is {found.speed} times as fast as its source on {on} "
                f"(itself: {found.control})"
            )
    return None


def _beside(job: Job, threads: int) -> Beside | None:
    """The package beside its source; None where no legal call is known, or the source does not run."""
    graph = job.graphs[0]
    with contextlib.suppress(Undecided, GraphoptError):
        feeds = next(iter(graph.legal_inputs().cases(graph.exported.interface))).feeds
        with job.clock.phase("check", f"measuring speed beside the source, threads: {threads}"):
            return run_beside(
                lambda: (job.target.session(job.source.path, threads=threads), feeds),
                lambda: (
                    job.target.session(job.staging.package / graph.file, threads=threads),
                    adapt_feeds(graph.result.adapters, feeds),
                ),
                threads=threads,
            )
    return None
