"""The main job: a source in, a package out. `graphopt.optimize` is here."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from graphopt.build._alternatives import settled
from graphopt.build._budget import hold_to_budget, replanned
from graphopt.build._clock import Clock, Progress
from graphopt.build._configure import chosen_target, configured, default_recipe
from graphopt.build._documents import write_all_documents, write_documents
from graphopt.build._inputs import FileDigests, weight_files
from graphopt.build._job import Job
from graphopt.build._memory import limited
from graphopt.build._package import Package
from graphopt.build._replay import Replay
from graphopt.cache import RunCache
from graphopt.errors import BadInput, CheckFailed
from graphopt.evaluate import Bindings, ClosingCheck
from graphopt.export import ONNX, Exported, Source, export_parts, resolve_source
from graphopt.io import keeping_what_is, without_collection
from graphopt.package import add_variant, check_destination, staged, staged_aside
from graphopt.plan import parse_bounds
from graphopt.recipes import Budget, OptimizeOptions, Recipe
from graphopt.report import Report
from graphopt.runtime import CPU
from graphopt.targets import Target
from graphopt.verify import KernelWorker

__all__ = ["Rejected", "decide", "export_package", "optimize"]


class Rejected(CheckFailed):
    """The package differs from its source by more than its recipe allows, and was not installed."""

    def __init__(self, message: str, report: Report) -> None:
        super().__init__(message, hint=f"Nothing was installed: {report.out} is as it was.")
        self.report = report


def optimize(
    source: str | Path,
    out: str | Path | None = None,
    *,
    options: OptimizeOptions | None = None,
    progress: Progress | None = None,
    decided: Mapping[str, Any] | None = None,
    check: Callable[[Path], None] | None = None,
    **changes: Any,
) -> Package:
    """Make a fast, checked package from `source` at `out` (default: ./SOURCE-RECIPE) and return it.

    `source` is a Hugging Face folder, an .onnx file, the name of an embedded model or a Hub id. What is asked
    for is in `options`, and in `changes`: fields of `OptimizeOptions` (`recipe="int4"`), `TypeError` for any
    other. `progress` is told what is going on. `decided` are decisions that were made before, for the lock to
    keep, and `check` is given the finished package before it is installed: what it raises leaves `out` as it
    was.

    Raises `Mismatch` (a `CheckFailed`) where an edit changes results more than its pass promises,
    `Rejected` (a `CheckFailed`) where the package differs from its source by more than the recipe allows,
    `CheckFailed` where it is not the one of `locked`, `BadInput` where that cannot be made here,
    and `BadInput`, `EnvironmentProblem` or `CheckFailed` as they arise; `out` is then as it was. An
    undecided comparison raises nothing: see `Package.manifest.closing_check`.
    """
    options = replace(options or OptimizeOptions(), **changes)
    with limited(options.max_ram, progress or _silent) as say:
        return _optimized(source, out, options, Clock(say), dict(decided or {}), check)


def _optimized(
    source: str | Path,
    out: str | Path | None,
    options: OptimizeOptions,
    clock: Clock,
    decided: Mapping[str, Any],
    check: Callable[[Path], None] | None,
) -> Package:
    first, *others = _targets(options.target)
    options = replace(options, target=first)
    replay = Replay.read(Path(options.locked)) if options.locked is not None else None
    if replay is not None:
        options = replay.options(options)
    parse_bounds(options.budget)  # what is wrong with it is said before anything is exported
    target = chosen_target(options.target)
    target.diagnose().require(target.name)
    if not options.cpu_fallback and target.provider == CPU:
        raise BadInput(
            f"target {target.name!r} is the CPU provider: nothing falls back to it",
            hint="Leave out --no-cpu-fallback.",
        )
    recipe = configured(options.recipe, options.settings, target, options.budget) if options.recipe else None
    bindings = Bindings.parse(options.inputs, options.dims)
    target.sizes = _fixed(target, bindings)
    resolved = _resolved(source, options, bindings, target, replay)
    if replay is not None:
        recipe = replay.recipe()
    if out is not None:
        check_destination(Path(out), force=options.force, source=resolved.path)
    with KernelWorker() as kernels, FileDigests() as digests, contextlib.ExitStack() as rest:
        digests.begin(weight_files(resolved))  # a core is idle while the model is exported
        if options.verify == "numeric":
            kernels.start()  # it gets ready while the model is exported
        cache = _run_cache(resolved, options, None if replay is None else replay.lock.decisions)
        with clock.phase("export", "exporting"), without_collection():
            exported, is_cached = _exported(resolved, options, clock, cache)
            rest.enter_context(keeping_what_is())
        if recipe is None:
            recipe = configured(default_recipe(exported[0], target), options.settings, target, options.budget)
        place = Path(out) if out is not None else Path(f"{_short_name(resolved)}-{recipe.name}")
        with staged(place, force=options.force, source=resolved.path) as staging:
            run = (options, bindings, place, staging, clock, digests, kernels, cache, is_cached)
            job = Job(resolved, exported, target, recipe, *run)
            _make(job, None if replay is None else replay.lock.decisions)
            if replay is None and options.validate:
                job = settled(_within_budget(job), _again)
            job.graphs[0].context.decisions.update(decided)
            _finish(job, replay)
            if check is not None:
                check(staging.package)
            for name in others:
                aside = staging.scratch / f"for-{name}"
                made = _optimized(source, aside, replace(options, target=name), clock, decided, check)
                add_variant(staging.package, made.path)
            clock.say(f"installing {place}")
        job.clear_mismatches()
    return Package.load(place)


def decide(
    source: str | Path,
    *,
    options: OptimizeOptions | None = None,
    progress: Progress | None = None,
    **changes: Any,
) -> dict[str, Any]:
    """What the passes of a recipe decide of `source`: `optimize` without its package.

    Arguments as for `optimize`; a recipe is asked for. Decisions of several graphs are by role. What was
    measured for them is in the cache, where `optimize` finds it. Raises `BadInput`, `EnvironmentProblem` or
    `CheckFailed` as they arise.
    """
    options = replace(options or OptimizeOptions(), **changes)
    clock, bindings = Clock(progress or _silent), Bindings.parse(options.inputs, options.dims)
    target = chosen_target(options.target)
    target.diagnose().require(target.name)
    if options.recipe is None:
        raise BadInput("decisions are those of a recipe, and there is none")
    recipe = configured(options.recipe, options.settings, target, options.budget)
    resolved = _resolved(source, options, bindings, target, None)
    cache = _run_cache(resolved, options, None)
    with KernelWorker() as kernels, FileDigests() as digests, staged_aside() as staging:
        with clock.phase("export", "exporting"), without_collection():
            exported, is_cached = _exported(resolved, options, clock, cache)
        run = (options, bindings, staging.package, staging, clock, digests, kernels, cache, is_cached)
        job = Job(resolved, exported, target, recipe, *run)
        job.transform()
        return job.decisions()


def _targets(asked: str | None) -> list[str | None]:
    """The targets that are asked for, each of which can run here. `BadInput` for one that is named twice."""
    names: list[str | None] = list(asked.split(",")) if asked else [None]
    for name in names:
        target = chosen_target(name)
        target.diagnose().require(target.name)
        if names.count(name) > 1:
            raise BadInput(f"target {name!r} is asked for twice")
    return names


def _fixed(target: Target, bindings: Bindings) -> dict[str, int]:
    """The sizes that `target` compiles graphs for; none where it takes any. `BadInput` for several of one."""
    if not target.fixed_sizes:
        return {}
    for name, sizes in bindings.dims.items():
        if len(sizes) > 1:
            said = ", ".join(map(str, sizes))
            raise BadInput(f"target {target.name!r} compiles graphs for one size of {name}, not {said}")
    return {name: sizes[0] for name, sizes in bindings.dims.items()}


def _resolved(
    source: str | Path, options: OptimizeOptions, bindings: Bindings, target: Target, replay: Replay | None
) -> Source:
    """What `source` stands for. `BadInput` where the options do not fit it, or `replay` does not."""
    resolved = resolve_source(source, trust_remote_code=options.trust_remote_code)
    resolved = replace(resolved, requantize=options.requantize)
    if replay is not None:
        replay.check(resolved, target, bindings)
        resolved = replace(resolved, name=replay.lock.source)
    if resolved.kind != ONNX and (options.inputs or (options.dims and not target.fixed_sizes)):
        raise BadInput(
            f"{resolved.name} is not an .onnx file: its legal inputs are known, leave out --inputs and --dim"
        )
    return resolved


def _make(job: Job, decisions: Mapping[str, Any] | None) -> None:
    """All of `job` but its documents, with the `decisions` of an earlier one."""
    if decisions is not None:
        job.follow(decisions)
    job.transform()
    job.compile()
    if job.options.validate:
        job.compare()


def _within_budget(job: Job) -> Job:
    """`job`, held to the budget that it was planned for; where it fails, one that was planned anew."""
    hold_to_budget(job)
    decisions = replanned(job)
    if decisions is None:
        return job
    job.clock.say("the budget is not kept: planning once more, by what was measured")
    again = _again(job, decisions)
    hold_to_budget(again)
    return again


def _again(job: Job, decisions: dict[str, Any]) -> Job:
    """The package of `job` made anew, with `decisions`."""
    job.staging.clear()
    cache = _run_cache(job.source, job.options, decisions)
    exported, is_cached = _exported(job.source, job.options, job.clock, cache)
    again = replace(
        job,
        exported=exported,
        cache=cache,
        export_cached=is_cached,
        closing=ClosingCheck("not run"),
        coverage=None,
    )
    _make(again, decisions)
    return again


def _finish(job: Job, replay: Replay | None) -> None:
    """Write the documents of `job`; raises where its package must not be installed."""
    report, lock = write_all_documents(job)
    if job.closing.verdict == "failed":
        raise Rejected(job.closing.difference(), report)
    if replay is not None:
        replay.compare(lock.outputs)


def export_package(
    source: str | Path,
    out: str | Path,
    *,
    task: str = "auto",
    trust_remote_code: bool = False,
    force: bool = False,
    progress: Progress | None = None,
) -> Package:
    """Make a package from `source` as the exporter leaves it: no pass runs and nothing is compared."""
    clock = Clock(progress or _silent)
    options = OptimizeOptions(
        task=task, verify="off", validate=False, trust_remote_code=trust_remote_code, force=force
    )
    resolved = resolve_source(source, trust_remote_code=trust_remote_code)
    check_destination(Path(out), force=force, source=resolved.path)
    with clock.phase("export", "exporting"):
        exported, _ = _exported(resolved, options, clock, None)
    as_it_is = Recipe("export", "As exported.", Budget(), ())
    with FileDigests() as digests, staged(Path(out), force=force, source=resolved.path) as staging:
        job = Job(
            resolved,
            exported,
            chosen_target(None),
            as_it_is,
            options,
            Bindings(),
            Path(out),
            staging,
            clock,
            digests,
        )
        job.compile()
        write_documents(job)
    return Package.load(Path(out))


def _run_cache(source: Source, options: OptimizeOptions, locked: Mapping[str, Any] | None) -> RunCache | None:
    if not options.cache or options.trust_remote_code:  # what such code reads is not known
        return None
    return RunCache.open(source, options.task, {"locked": locked, "requantize": options.requantize})


def _exported(
    source: Source, options: OptimizeOptions, clock: Clock, cache: RunCache | None
) -> tuple[list[Exported], bool]:
    """The source as graphs, and whether that was in the cache."""
    known = cache.exported() if cache is not None else None
    if known is not None:
        return known, True
    exported = export_parts(
        source, task=options.task, trust_remote_code=options.trust_remote_code, progress=clock.say
    )
    if cache is not None:
        cache.keep_exported(exported)
    return exported, False


def _short_name(source: Source) -> str:
    name = Path(source.name)
    return name.stem if source.path.is_file() else name.name or source.path.resolve().name


def _silent(text: str) -> None:
    pass
