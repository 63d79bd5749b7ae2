"""The verbs of the Python API that make packages."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from graphopt.build._job import Choices, Clock, Job, Progress
from graphopt.build._package import Package
from graphopt.build._replay import Replay
from graphopt.cache import RunCache
from graphopt.errors import BadInput, CheckFailed
from graphopt.evaluate import Bindings
from graphopt.export import ONNX, Exported, Source, export_parts, resolve_source
from graphopt.package import check_destination, staged
from graphopt.pipeline import OnMismatch
from graphopt.plugins import build_steps, load_recipe, registry, with_options
from graphopt.recipes import Budget, Recipe
from graphopt.report import Report
from graphopt.verify import KernelWorker

if TYPE_CHECKING:
    from graphopt.targets import Target

__all__ = ["Rejected", "export_package", "optimize"]

DEFAULT_RECIPES = {"text-generation": "int4"}


class Rejected(CheckFailed):
    """The package differs from its source by more than its recipe allows, and was not installed."""

    def __init__(self, message: str, report: Report) -> None:
        super().__init__(message, hint=f"Nothing was installed: {report.out} is as it was.")
        self.report = report


def optimize(
    source: str | Path,
    out: str | Path | None = None,
    *,
    target: str = "cpu",
    recipe: str | None = None,
    task: str = "auto",
    inputs: str | Path | None = None,
    dims: Sequence[str] = (),
    verify: Literal["off", "structure", "numeric"] = "numeric",
    on_mismatch: OnMismatch = "stop",
    settings: Sequence[str] = (),
    stop_after: str | None = None,
    validate: bool = True,
    trust_remote_code: bool = False,
    force: bool = False,
    locked: str | Path | None = None,
    cache: bool = True,
    progress: Progress | None = None,
) -> Package:
    """Make a fast, checked package from `source` at `out` (default: ./SOURCE-RECIPE) and return it.

    `source` is a Hugging Face folder, an .onnx file, the name of an embedded model or a Hub id; `recipe` a
    name or a TOML file (default: int4 for text generation, lossless otherwise). `inputs` (.npz) and `dims`
    ("NAME=1,3") say what legal inputs of an .onnx file are. `settings` are "PASS[#N].OPTION=VALUE".
    `verify` is what happens after every pass: nothing, a check of the graph's structure, or also a check of
    each edit by running what it takes away and what it puts there; an edit that fails stops the run, or is
    rolled back (`on_mismatch`). `progress` is told what is going on.

    `locked` is a graphopt.lock, or the package with it: the package is made again, and the lock decides
    target, recipe, task, `dims`, `verify`, `on_mismatch`, `stop_after` and `validate`. `cache`: continue from
    what an earlier run of the same left in the cache, if it did, and leave as much for the next one.

    Raises `Mismatch` (a `CheckFailed`) where an edit changes results more than its pass promises,
    `Rejected` (a `CheckFailed`) where the package differs from its source by more than the recipe allows,
    `CheckFailed` where it is not the one of `locked`, `BadInput` where that cannot be made here,
    and `BadInput`, `EnvironmentProblem` or `CheckFailed` as they arise; `out` is then as it was. An
    undecided comparison raises nothing: see `Package.manifest.closing_check`.
    """
    clock = Clock(progress or _silent)
    choices = Choices(verify, on_mismatch, stop_after, validate)
    replay = None
    if locked is not None:
        replay = Replay.read(Path(locked))
        replay.refuse({"--recipe": recipe, "--set": settings, "--dim": dims, "--stop-after": stop_after})
        lock = replay.lock
        target, task = lock.target, lock.task
        dims = [f"{name}={','.join(map(str, values))}" for name, values in lock.dims.items()]
        choices = Choices(lock.verify, lock.on_mismatch, lock.stop_after, lock.closing_check)
    platform: Target = registry.resolve("target", target, registry.targets())()
    chosen = configured(recipe, settings, platform) if recipe else None
    bindings = Bindings.parse(inputs, dims)
    found = resolve_source(source, trust_remote_code=trust_remote_code)
    if replay is not None:
        replay.check(found, platform, bindings)
        found, chosen = dataclasses.replace(found, name=replay.lock.source), replay.recipe()
    if found.kind != ONNX and (inputs or dims):
        raise BadInput(
            f"{found.name} is not an .onnx file: its legal inputs are known, leave out --inputs and --dim"
        )
    if out is not None:
        check_destination(Path(out), force=force, source=found.path)
    kept = None
    if cache and not trust_remote_code:  # what such code reads is not known
        kept = RunCache.open(found, task, {"locked": replay.lock.decisions if replay is not None else None})
    with KernelWorker() as kernels:
        if choices.verify == "numeric":
            kernels.start()  # it gets ready while the model is exported
        with clock.phase("export", "exporting"):
            exported, is_cached = _exported(found, task, trust_remote_code, clock, kept)
        if chosen is None:
            chosen = configured(DEFAULT_RECIPES.get(exported[0].task, "lossless"), settings, platform)
        place = Path(out) if out is not None else Path(f"{_short_name(found)}-{chosen.name}")
        with staged(place, force=force, source=found.path) as staging:
            job = Job(found, exported, platform, chosen, place, staging, clock, kernels, kept, is_cached)
            if replay is not None:
                job.follow(replay.lock.decisions)
            job.transform(
                choices.verify, choices.stop_after, bindings=bindings, on_mismatch=choices.on_mismatch
            )
            job.compile()
            if choices.validate:
                job.compare(bindings, trust_remote_code)
            report, written = job.write(bindings, choices)
            if job.closing.verdict == "failed":
                raise Rejected(job.closing.difference(), report)
            if replay is not None:
                replay.compare(written.outputs)
        job.clear_mismatches()
    return Package.load(place)


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
    platform: Target = registry.resolve("target", "cpu", registry.targets())()
    found = resolve_source(source, trust_remote_code=trust_remote_code)
    check_destination(Path(out), force=force, source=found.path)
    with clock.phase("export", "exporting"):
        exported = export_parts(found, task=task, trust_remote_code=trust_remote_code, progress=clock.say)
    as_it_is = Recipe("export", "As exported.", Budget(), ())
    with staged(Path(out), force=force, source=found.path) as staging:
        job = Job(found, exported, platform, as_it_is, Path(out), staging, clock)
        job.compile()
        job.write(Bindings(), Choices("off", validate=False))
    return Package.load(Path(out))


def configured(name: str, settings: Sequence[str], target: Target) -> Recipe:
    """The recipe `name` with `settings` and the target's steps; `BadInput` for an unknown pass or option."""
    recipe = load_recipe(name)
    recipe = with_options(recipe.expanded(target.lowering(recipe)), settings)
    build_steps(recipe)
    return recipe


def _exported(
    source: Source, task: str, trust_remote_code: bool, clock: Clock, cache: RunCache | None
) -> tuple[list[Exported], bool]:
    """The source as graphs, and whether that was in the cache."""
    found = cache.exported() if cache is not None else None
    if found is not None:
        return found, True
    exported = export_parts(source, task=task, trust_remote_code=trust_remote_code, progress=clock.say)
    if cache is not None:
        cache.keep_exported(exported)
    return exported, False


def _short_name(source: Source) -> str:
    name = Path(source.name)
    return name.stem if source.path.is_file() else name.name or source.path.resolve().name


def _silent(text: str) -> None:
    pass
