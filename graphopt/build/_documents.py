"""What a package says of itself: graphopt.json, graphopt.lock and report.json."""

from __future__ import annotations

import importlib.metadata
import sys

from graphopt.build._job import Job
from graphopt.build._replay import SEEDS
from graphopt.io import digest_of, digests_below
from graphopt.machine import known_profile
from graphopt.package import LOCK, MANIFEST, Lock, LockedStep, Manifest, TargetInfo, packs, versions
from graphopt.pipeline import weight_bytes
from graphopt.plan import PLAN
from graphopt.report import (
    PAGE,
    REPORT,
    ClosingReport,
    CoverageReport,
    IslandReport,
    PassReport,
    PredictionReport,
    Report,
    Sizes,
    idle_stages,
    write_page,
)
from graphopt.runtime import default_threads

__all__ = ["remove_documents", "write_all_documents", "write_documents"]

_PROMPT, _NEW = 256, 64
"""Tokens of the text that is predicted: what `graphopt bench` measures unless told otherwise."""


def write_documents(job: Job) -> tuple[Report, Lock]:
    """Write graphopt.json, graphopt.lock and report.json of `job`, and return the last two."""
    folder = job.staging.package
    _manifest(job).write(folder)
    job.cover()
    with job.clock.phase("lock", "writing the lock and the report"):
        lock = _lock(job)
        lock.write(folder)
    report = _report(job, lock)
    report.write(folder / REPORT)
    return report, lock


def write_all_documents(job: Job) -> tuple[Report, Lock]:
    """`write_documents`, and report.html."""
    report, lock = write_documents(job)
    title = f"{report.source}, {report.recipe} on {report.target}"
    write_page(job.staging.package / PAGE, title=title, reports=[report])
    return report, lock


def remove_documents(job: Job) -> None:
    """Take away what `write_all_documents` wrote."""
    for name in (MANIFEST, LOCK, REPORT, PAGE):
        (job.staging.package / name).unlink()


def _manifest(job: Job) -> Manifest:
    assumptions = job.assumptions()
    return Manifest(
        graphopt=importlib.metadata.version("graphopt"),
        source=job.source.name,
        task=job.task,
        family=job.family.name if job.family else None,
        recipe=job.recipe.name,
        lossless=job.recipe.budget.lossless,
        target=TargetInfo(name=job.target.name, fingerprint=job.target.fingerprint()),
        graphs={graph.exported.role: graph.described() for graph in job.graphs},
        source_interface=job.interface(),
        adapters=tuple(form for graph in job.graphs for form in graph.adapters()),
        assumptions={a.key: a.text for a in assumptions},
        conditions=tuple(a for a in assumptions if not a.in_words_alone),
        closing_check=job.closing.verdict,
        sizes=job.sizes(),
        calibration=job.calibrated_on(),
        cpu_fallback=job.options.cpu_fallback,
        max_batch_tokens=job.max_batch_tokens,
    )


def _lock(job: Job) -> Lock:
    options, bindings = job.options, job.bindings
    records = job.graphs[0].result.records
    return Lock(
        source=job.source.name,
        task=job.task,
        recipe=job.recipe.name,
        steps=[LockedStep(name=record.step, options=dict(record.options)) for record in records],
        budget=job.recipe.budget.model_dump(),
        decisions=job.decisions(),
        target=job.target.name,
        fingerprint=job.target.fingerprint(),
        stop_after=options.stop_after,
        verify=options.verify,
        on_mismatch=options.on_mismatch,
        closing_check=options.validate,
        cpu_fallback=options.cpu_fallback,
        dims={name: list(values) for name, values in bindings.dims.items()},
        seeds=SEEDS,
        versions=versions(job.target.libraries),
        packs=packs(),
        inputs=job.digests.of(job.files) | {name: digest_of(path) for name, path in bindings.files().items()},
        outputs=digests_below(job.staging.package),
    )


def _report(job: Job, lock: Lock) -> Report:
    folder, records = job.staging.package, [graph.result.records for graph in job.graphs]
    return Report(
        graphopt=importlib.metadata.version("graphopt"),
        source=job.source.name,
        out=str(job.out),
        task=job.task,
        family=job.family.name if job.family else None,
        target=job.target.name,
        recipe=job.recipe.name,
        lossless=job.recipe.budget.lossless,
        verify=job.options.verify,
        export_cached=job.export_cached,
        passes=[
            PassReport.of(record, graph.exported.role)
            for graph in job.graphs
            for record in graph.result.records
        ],
        closing=ClosingReport.of(job.closing),
        sizes=Sizes(
            source_weight_bytes=job.source_weights,
            package_weight_bytes=sum(weight_bytes(graph.exported.model) for graph in job.graphs),
            package_bytes=sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()),
        ),
        seconds=job.clock.seconds,
        peak_memory=_peak_memory(),
        notes=[
            *dict.fromkeys(note for graph in job.graphs for note in graph.context.notes),
            *idle_stages(records),
            *job.notes,
        ],
        assumptions={a.key: a.text for a in job.assumptions()},
        versions=lock.versions,
        machine=lock.fingerprint,
        plans={
            graph.exported.role: graph.context.decisions[PLAN]
            for graph in job.graphs
            if PLAN in graph.context.decisions
        },
        islands={
            graph.exported.role: [IslandReport.model_validate(vars(one)) for one in graph.islands]
            for graph in job.graphs
            if graph.islands
        },
        coverage={role: CoverageReport.of(one) for role, one in (job.coverage or {}).items()},
        prediction=_prediction(job),
        views={graph.exported.role: graph.view() for graph in job.graphs},
    )


def _prediction(job: Job) -> PredictionReport | None:
    """Of a package that is one graph with a cache, where the target was profiled on this machine."""
    graph, threads = job.graphs[0], default_threads()
    profile = known_profile(job.target, threads)
    if profile is None or len(job.graphs) > 1 or not graph.described().past():
        return None
    from graphopt.cost import Situation, history_of, predict, work_of

    situation = Situation(_PROMPT, _NEW, threads=threads)
    found = predict(work_of(graph.exported.model), profile, situation)
    return PredictionReport.of(found, profile, situation, history_of(profile))


def _peak_memory() -> int:
    """High-water mark of this process's memory, in bytes; 0 where the system does not tell."""
    try:
        import resource
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
