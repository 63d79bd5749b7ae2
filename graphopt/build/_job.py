"""One run of the main job, from exported graphs to the files of a package."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Container, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from graphopt.build._graph_job import Clock, GraphJob, Progress
from graphopt.build._replay import SEEDS
from graphopt.cache import RunCache
from graphopt.evaluate import Bindings, ClosingCheck, compare_whole, compare_with_source
from graphopt.export import Exported, Source
from graphopt.families import Assumption, PackageContext
from graphopt.interface import Interface, TensorSpec
from graphopt.io import digest_of, digests_below
from graphopt.ir import Expr, FileRange, lazy
from graphopt.package import Lock, LockedStep, Manifest, Port, PortList, Staging, TargetInfo, packs, versions
from graphopt.pipeline import EditRecord, OnMismatch, place_of, weight_bytes
from graphopt.recipes import Recipe
from graphopt.report import REPORT, ClosingReport, PassReport, Report, Sizes, idle_stages
from graphopt.runtime import has_rows, measured_batch_tokens
from graphopt.verify import EditVerifier, KernelWorker, clear_reproducers

if TYPE_CHECKING:
    import onnx_ir as ir

    from graphopt.targets import Target

__all__ = ["Choices", "Clock", "Job", "Progress"]


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

    `exported` are the graphs of the source: each goes its own way, and they are one package. With a `cache`,
    `transform` continues from what is there; `export_cached` is for the report.
    """

    source: Source
    exported: Sequence[Exported]
    target: Target
    recipe: Recipe
    out: Path
    staging: Staging
    clock: Clock
    kernels: KernelWorker = field(default_factory=KernelWorker)
    cache: RunCache | None = None
    export_cached: bool = False
    closing: ClosingCheck = field(default_factory=lambda: ClosingCheck("not run"))
    max_batch_tokens: int | None = None

    def __post_init__(self) -> None:
        self.graphs = [self._graph(exported) for exported in self.exported]
        self.task, self.family = self.exported[0].task, self.exported[0].family
        self.notes: list[str] = []
        models = [exported.model for exported in self.exported]
        self.inputs = _Digests(_files_behind(self.source, models))
        self.source_weights = _stored_bytes(models)

    def _graph(self, exported: Exported) -> GraphJob:
        scratch = self.staging.scratch / exported.role
        scratch.mkdir()
        reproducers = self.out.with_name(f"{self.out.name}.mismatch")
        return GraphJob(
            exported, self.target, self.recipe, scratch, reproducers, self.clock, self.kernels, self.cache
        )

    def follow(self, decisions: Mapping[str, Any]) -> None:
        """Take over the measured decisions of a lock."""
        for graph in self.graphs:
            graph.context.decisions.update(_of_role(decisions, graph.exported.role))

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
        """Run the recipe over every graph; see `GraphJob.transform`."""
        for graph in self.graphs:
            graph.transform(
                verify,
                stop_after,
                bindings=bindings,
                on_mismatch=on_mismatch,
                allow=allow,
                verifier=verifier,
                verified=verified,
            )

    def edits(self) -> tuple[tuple[str, EditRecord], ...]:
        """The edits that passes proposed, in order, with the names of their steps."""
        return tuple(edit for graph in self.graphs for edit in graph.edits())

    def clear_mismatches(self) -> None:
        """Take away what an earlier run left beside the package to show failed edits, but for this run's."""
        failed = {place_of(edit.identity) for _, edit in self.edits() if edit.verdict == "failed"}
        clear_reproducers(self.graphs[0].reproducers, keep=failed)

    def compile(self) -> None:
        """Have the target write the graphs, and the family what belongs beside them."""
        first = self.exported[0]
        with self.clock.phase("compile", f"compiling for {self.target.name}"):
            parts = {graph.exported.role: graph.compile(self.staging.package) for graph in self.graphs}
            if first.family is not None and first.source_dir is not None:
                context = parts.get("model") or PackageContext(self._interface(), parts=parts)
                self.notes += first.family.package_files(
                    first.source_dir, first.config or {}, self.staging.package, context
                )

    def compare(self, bindings: Bindings, trust_remote_code: bool) -> None:
        """Run the closing check: of every graph, and of the whole where they are several."""
        with self.clock.phase("check", "comparing with the source"):
            models = {}
            for graph in self.graphs:
                session = self.target.session(self.staging.package / graph.file)
                found = compare_with_source(
                    self.source,
                    graph.exported,
                    session,
                    graph.result.adapters,
                    self.recipe.budget,
                    bindings,
                    folder=self.staging.package,
                    assumptions=list(graph.context.assumptions.values()),
                    trust_remote_code=trust_remote_code,
                )
                models[graph.exported.role] = found.package
                first = graph is self.graphs[0]
                self.closing = found.check if first else self.closing.and_then(found.check)
                if found.text is not None and has_rows(Interface.of(graph.exported.model)):
                    measure = partial(measured_batch_tokens, found.package, found.text)
                    self.max_batch_tokens = graph.context.decide("batches", measure)
            if len(self.graphs) > 1:
                whole = compare_whole(
                    self.exported, models, self.recipe.budget, self._assumptions(), trust_remote_code
                )
                self.closing, self.max_batch_tokens = self.closing.and_then(whole), None

    def write(self, bindings: Bindings, choices: Choices) -> tuple[Report, Lock]:
        """Write graphopt.json, graphopt.lock and report.json, and return the last two."""
        with self.clock.phase("lock", "writing the lock and the report"):
            self._manifest().write(self.staging.package)
            lock = self._lock(bindings, choices)
            lock.write(self.staging.package)
        report = self._report(choices.verify)
        report.write(self.staging.package / REPORT)
        return report, lock

    def _interface(self) -> Interface:
        """That of the source as a whole."""
        first = self.exported[0]
        if first.family is None or len(self.exported) == 1:
            return first.interface
        return first.family.interface({exported.role: exported.interface for exported in self.exported})

    def _assumptions(self) -> list[Assumption]:
        found = {a.key: a for graph in self.graphs for a in graph.context.assumptions.values()}
        return list(found.values())

    def _manifest(self) -> Manifest:
        return Manifest(
            graphopt=importlib.metadata.version("graphopt"),
            source=self.source.name,
            task=self.task,
            family=self.family.name if self.family else None,
            recipe=self.recipe.name,
            lossless=self.recipe.budget.lossless,
            target=TargetInfo(name=self.target.name, fingerprint=self.target.fingerprint()),
            graphs={graph.exported.role: graph.described() for graph in self.graphs},
            source_interface=_ports(self._interface()),
            adapters=tuple(form for graph in self.graphs for form in graph.adapters()),
            assumptions={a.key: a.text for a in self._assumptions()},
            conditions=tuple(a for a in self._assumptions() if not a.in_words_alone),
            closing_check="not run" if self.closing.verdict == "failed" else self.closing.verdict,
            max_batch_tokens=self.max_batch_tokens,
        )

    def _decisions(self) -> dict[str, Any]:
        made = {graph.exported.role: graph.context.decisions for graph in self.graphs}
        return made["model"] if "model" in made else dict(made)

    def _lock(self, bindings: Bindings, choices: Choices) -> Lock:
        records = self.graphs[0].result.records
        steps = [LockedStep(name=record.step, options=dict(record.options)) for record in records]
        return Lock(
            source=self.source.name,
            task=self.task,
            recipe=self.recipe.name,
            steps=steps,
            budget=self.recipe.budget.model_dump(),
            decisions=self._decisions(),
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
            task=self.task,
            family=self.family.name if self.family else None,
            target=self.target.name,
            recipe=self.recipe.name,
            lossless=self.recipe.budget.lossless,
            verify=verify,
            export_cached=self.export_cached,
            passes=[
                PassReport.of(record, graph.exported.role)
                for graph in self.graphs
                for record in graph.result.records
            ],
            closing=ClosingReport.of(self.closing),
            sizes=Sizes(
                source_weights=self.source_weights,
                package_weights=sum(weight_bytes(graph.exported.model) for graph in self.graphs),
                package_files=sum(p.stat().st_size for p in self.staging.package.rglob("*") if p.is_file()),
            ),
            seconds=self.clock.seconds,
            peak_rss=_peak_rss(),
            notes=[
                *dict.fromkeys(n for graph in self.graphs for n in graph.context.notes),
                *idle_stages(graph.result.records for graph in self.graphs),
                *self.notes,
            ],
            assumptions={a.key: a.text for a in self._assumptions()},
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


def _ports(interface: Interface) -> PortList:
    def listed(specs: tuple[TensorSpec, ...]) -> tuple[Port, ...]:
        return tuple(Port(name=s.name, dtype=s.dtype, shape=s.dims) for s in specs)

    return PortList(inputs=listed(interface.inputs), outputs=listed(interface.outputs))


def _of_role(decisions: Mapping[str, Any], role: str) -> Mapping[str, Any]:
    """Those of one graph: several graphs' are by role."""
    return decisions if role == "model" else decisions.get(role, {})


def _files_behind(source: Source, models: Sequence[ir.Model]) -> dict[str, Path]:
    """The files that a source's graphs and weights come from, by their name in the lock."""
    alone = source.path.is_file()
    files = {source.path} if alone else {p for p in source.path.glob("*.json") if p.is_file()}
    named = {path.name: path for path in files}
    found = {leaf.path.name: leaf.path for leaf in _leaves(models) if isinstance(leaf, FileRange)}
    return dict(sorted((named | found).items()))


def _stored_bytes(models: Sequence[ir.Model]) -> int:
    """Bytes of the weights as the source's files hold them: bf16 where a graph upcasts it."""
    return sum({leaf.identity: leaf.nbytes for leaf in _leaves(models)}.values())


def _leaves(models: Sequence[ir.Model]) -> Iterator[Expr]:
    for model in models:
        for graph in (model.graph, *model.graph.subgraphs()):
            for value in graph.initializers.values():
                if value.const_value is not None:
                    yield from lazy(value.const_value).leaves()


def _peak_rss() -> int:
    """High-water mark of this process's memory, in bytes; 0 where the system does not tell."""
    try:
        import resource
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
