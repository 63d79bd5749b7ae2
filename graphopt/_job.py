"""One run of the main job, from an exported model to the files of a package."""

from __future__ import annotations

import contextlib
import importlib.metadata
import sys
import time
from collections.abc import Callable, Container, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from graphopt._comparison import Bindings, compare_with_source
from graphopt._locked import SEEDS
from graphopt.cache import RunCache, StepCache
from graphopt.export import Exported, Source
from graphopt.families import Interface, PackageContext, TensorSpec
from graphopt.ir import FileRange, Scratch, lazy
from graphopt.lock import Lock, LockedStep, digest_of, digests_below, packs, versions
from graphopt.package import GraphFile, Manifest, Port, PortList, Staging, TargetInfo
from graphopt.pipeline import (
    Context,
    EditRecord,
    OnMismatch,
    Recipe,
    RunOptions,
    RunResult,
    run_recipe,
    weight_bytes,
    whole_steps,
)
from graphopt.report import REPORT, ClosingReport, PassReport, Report, Sizes
from graphopt.runtime import default_threads
from graphopt.verify import ClosingCheck, EditVerifier, KernelWorker

if TYPE_CHECKING:
    import onnx_ir as ir

    from graphopt.targets import Target

__all__ = ["Choices", "Clock", "Job", "Progress"]

MODEL = "model.onnx"

Progress = Callable[[str], None]


@dataclass
class Clock:
    """Tells what is going on, and keeps the seconds of each phase."""

    say: Progress
    seconds: dict[str, float] = field(default_factory=dict)

    @contextlib.contextmanager
    def phase(self, name: str, text: str) -> Iterator[None]:
        """Say `text` and count what happens inside as the phase `name`."""
        self.say(text)
        started = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started


@dataclass(frozen=True)
class Choices:
    """The options of `optimize` that shape a package besides its recipe."""

    verify: Literal["off", "structure", "numeric"] = "numeric"
    on_mismatch: OnMismatch = "stop"
    stop_after: str | None = None
    validate: bool = True


@dataclass
class Job:
    """What a run has so far. Call `transform`, `compile`, `compare` and `write` in this order.

    With a `cache`, `transform` continues from what is there; `export_cached` is for the report.
    """

    source: Source
    exported: Exported
    target: Target
    recipe: Recipe
    out: Path
    staging: Staging
    clock: Clock
    kernels: KernelWorker = field(default_factory=KernelWorker)
    cache: RunCache | None = None
    export_cached: bool = False
    result: RunResult = field(default_factory=RunResult)
    closing: ClosingCheck = field(default_factory=lambda: ClosingCheck("not run"))

    def __post_init__(self) -> None:
        exported = self.exported
        self.inputs = _Digests(_files_behind(self.source, exported.model))
        self.source_weights = _stored_bytes(exported.model)
        domain = None
        if exported.family is not None and exported.config is not None:
            domain = exported.family.input_domain(exported.interface, exported.config)
        self.context = Context(
            exported.model,
            target=self.target,
            domain=domain,
            config=exported.config or {},
            task=exported.task,
            scratch=Scratch(self.staging.scratch),
            notes=list(exported.notes),
        )

    def transform(
        self,
        verify: str,
        stop_after: str | None = None,
        *,
        bindings: Bindings | None = None,
        on_mismatch: OnMismatch = "stop",
        allow: Container[str] | None = None,
        verifier: EditVerifier | None = None,
        verified: Container[str] | None = None,
    ) -> None:
        """Run the recipe over the model, each edit checked if `verify` is "numeric".

        Only edits in `allow` are made, only those in `verified` are checked by the given `verifier`, and
        never stop the run; the cache is then left alone.
        """
        bindings = bindings or Bindings()

        def tell(step: str, index: int, count: int) -> None:
            self.clock.say(f"optimizing: {step} ({index + 1} of {count})")

        own = self._verifier(bindings) if verify == "numeric" else None
        states = None
        if self.cache is not None and allow is None and verifier is None:
            checks = {"verify": verify, "on mismatch": on_mismatch, "threads": default_threads()}
            states = self._states(self.cache, stop_after, checks | bindings.digests())
            self._continue(states, own)

        def done(index: int) -> None:
            if states is not None:
                states.keep(index, self.context, self.result, own.verdicts() if own is not None else {})

        options = RunOptions(
            verify=verify,
            verifier=verifier or own,
            on_mismatch="rollback" if verifier is not None else on_mismatch,
            allow=allow,
            verified=verified,
            reproducers=self.out.with_name(f"{self.out.name}.mismatch"),
            stop_after=stop_after,
            progress=tell,
            done=done,
        )
        with self.clock.phase("passes", "optimizing"), contextlib.ExitStack() as running:
            if own is not None:
                running.enter_context(own)
            run_recipe(self.exported.model, self.recipe, self.context, options, self.result)

    def _states(self, cache: RunCache, stop_after: str | None, checks: Mapping[str, object]) -> StepCache:
        steps = whole_steps(self.recipe, stop_after)
        return cache.steps(self.exported.model, steps, self.target, checks, self.staging.scratch)

    def _continue(self, states: StepCache, verifier: EditVerifier | None) -> None:
        """Take over the latest state that an earlier run left."""
        found = states.latest()
        if found is None:
            return
        self.clock.say(f"optimizing: continuing after {found.records[-1].step}")
        self.exported = replace(self.exported, model=found.model)
        self.context.model = found.model
        self.context.notes[:] = found.notes
        self.context.assumptions.update(found.assumptions)
        self.context.decisions.update(found.decisions)
        self.result.records += found.records
        self.result.adapters += found.adapters
        if verifier is not None:
            verifier.remember(found.verdicts)

    def edits(self) -> tuple[tuple[str, EditRecord], ...]:
        """The edits that passes proposed, in order, with the names of their steps."""
        return tuple((record.step, edit) for record in self.result.records for edit in record.edits)

    def _verifier(self, bindings: Bindings) -> EditVerifier:
        return EditVerifier(
            self.exported.interface,
            self.context.domain,
            arrays=bindings.arrays,
            sizes=bindings.dims,
            worker=self.kernels,
            threads=default_threads(),
        )

    def compile(self) -> None:
        """Have the target write the model, and the family what belongs beside it."""
        exported = self.exported
        with self.clock.phase("compile", f"compiling for {self.target.name}"):
            self.target.compile(exported.model, self.staging.package / MODEL)
            if exported.family is not None and exported.source_dir is not None:
                context = PackageContext(
                    Interface.of(exported.model), MODEL, share_buffer=_shares_memory(exported.model)
                )
                notes = exported.family.package_files(
                    exported.source_dir, exported.config or {}, self.staging.package, context
                )
                self.context.notes.extend(notes)

    def compare(self, bindings: Bindings, trust_remote_code: bool) -> None:
        """Run the closing check."""
        with self.clock.phase("check", "comparing with the source"):
            self.closing = compare_with_source(
                self.source,
                self.exported,
                self.target.session(self.staging.package / MODEL),
                self.result.adapters,
                self.recipe.budget,
                bindings,
                folder=self.staging.package,
                assumptions=self.context.assumptions,
                trust_remote_code=trust_remote_code,
            )

    def write(self, bindings: Bindings, choices: Choices) -> tuple[Report, Lock]:
        """Write graphopt.json, graphopt.lock and report.json, and return the last two."""
        with self.clock.phase("lock", "writing the lock and the report"):
            self._manifest().write(self.staging.package)
            lock = self._lock(bindings, choices)
            lock.write(self.staging.package)
        report = self._report(choices.verify)
        report.write(self.staging.package / REPORT)
        return report, lock

    def _manifest(self) -> Manifest:
        graph = self.exported.model.graph
        inputs = tuple(_port(v) for v in graph.inputs if not v.is_initializer())
        return Manifest(
            graphopt=importlib.metadata.version("graphopt"),
            source=self.source.name,
            task=self.exported.task,
            family=self.exported.family.name if self.exported.family else None,
            recipe=self.recipe.name,
            lossless=self.recipe.budget.lossless,
            target=TargetInfo(name=self.target.name, fingerprint=self.target.fingerprint()),
            graphs={"model": GraphFile(file=MODEL, inputs=inputs, outputs=tuple(map(_port, graph.outputs)))},
            source_interface=_ports(self.exported.interface),
            adapters=tuple(adapter.to_json() for adapter in self.result.adapters),
            assumptions=self.context.assumptions,
            closing_check="not run" if self.closing.verdict == "failed" else self.closing.verdict,
        )

    def _lock(self, bindings: Bindings, choices: Choices) -> Lock:
        steps = [LockedStep(name=r.step, options=dict(r.options)) for r in self.result.records]
        return Lock(
            source=self.source.name,
            task=self.exported.task,
            recipe=self.recipe.name,
            steps=steps,
            budget=self.recipe.budget.model_dump(),
            decisions=self.context.decisions,
            target=self.target.name,
            fingerprint=self.target.fingerprint(),
            stop_after=choices.stop_after,
            verify=choices.verify,
            on_mismatch=choices.on_mismatch,
            closing_check=choices.validate,
            dims={name: list(values) for name, values in bindings.dims.items()},
            seeds=SEEDS,
            versions=versions(),
            packs=packs(),
            inputs=self.inputs.found() | {name: digest_of(path) for name, path in bindings.files().items()},
            outputs=digests_below(self.staging.package),
        )

    def _report(self, verify: str) -> Report:
        return Report(
            graphopt=importlib.metadata.version("graphopt"),
            source=self.source.name,
            out=str(self.out),
            task=self.exported.task,
            family=self.exported.family.name if self.exported.family else None,
            target=self.target.name,
            recipe=self.recipe.name,
            lossless=self.recipe.budget.lossless,
            verify=verify,
            export_cached=self.export_cached,
            passes=[PassReport.of(record) for record in self.result.records],
            closing=ClosingReport.of(self.closing),
            sizes=Sizes(
                source_weights=self.source_weights,
                package_weights=weight_bytes(self.exported.model),
                package_files=sum(p.stat().st_size for p in self.staging.package.rglob("*") if p.is_file()),
            ),
            seconds=self.clock.seconds,
            peak_rss=_peak_rss(),
            notes=self.context.notes,
            assumptions=self.context.assumptions,
        )


class _Digests:
    """Digests of files by name, computed on a thread beside the passes, most of which need but one."""

    def __init__(self, files: Mapping[str, Path]) -> None:
        pool = ThreadPoolExecutor(1, thread_name_prefix="digests")
        self._made = {name: pool.submit(digest_of, path) for name, path in files.items()}
        pool.shutdown(wait=False)

    def found(self) -> dict[str, str]:
        """Wait for all of them."""
        return {name: made.result() for name, made in self._made.items()}


def _port(value: ir.Value) -> Port:
    shape = None if value.shape is None else tuple(d if isinstance(d, int) else d.value for d in value.shape)
    return Port(name=value.name or "", dtype=str(value.dtype.numpy()) if value.dtype else "?", shape=shape)


def _ports(interface: Interface) -> PortList:
    def listed(specs: tuple[TensorSpec, ...]) -> tuple[Port, ...]:
        return tuple(Port(name=s.name, dtype=s.dtype, shape=s.dims) for s in specs)

    return PortList(inputs=listed(interface.inputs), outputs=listed(interface.outputs))


def _shares_memory(model: ir.Model) -> bool:
    """Whether a cache of fixed size can stand for past and present: nothing but attention kernels that take
    one looks at the past."""
    past = [value for value in model.graph.inputs if (value.name or "").startswith("past_key_values.")]
    return bool(past) and all(
        user.op_type == "GroupQueryAttention" and index in (3, 4)
        for value in past
        for user, index in value.uses()
    )


def _files_behind(source: Source, model: ir.Model) -> dict[str, Path]:
    """The files that a source's graph and weights come from, by their name in the lock."""
    home = source.path if source.kind == "folder" else source.path.parent
    files = {source.path} if source.kind == "onnx" else {p for p in home.glob("*.json") if p.is_file()}
    named = {path.name: path for path in files}
    return dict(sorted((named | {path.name: path for path in _ranges(model)}).items()))


def _ranges(model: ir.Model) -> Iterator[Path]:
    for graph in (model.graph, *model.graph.subgraphs()):
        for value in graph.initializers.values():
            if value.const_value is not None:
                yield from (e.path for e in lazy(value.const_value).leaves() if isinstance(e, FileRange))


def _stored_bytes(model: ir.Model) -> int:
    """Bytes of the weights as the source's files hold them: bf16 where the graph upcasts it."""
    sizes: dict[object, int] = {}
    for graph in (model.graph, *model.graph.subgraphs()):
        for value in graph.initializers.values():
            if value.const_value is not None:
                sizes |= {leaf.identity: leaf.nbytes for leaf in lazy(value.const_value).leaves()}
    return sum(sizes.values())


def _peak_rss() -> int:
    """High-water mark of this process's memory, in bytes; 0 where the system does not tell."""
    try:
        import resource
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
