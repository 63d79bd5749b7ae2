"""One run of the main job, from exported graphs to the files of a package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from graphopt.build._clock import Clock
from graphopt.build._graph_job import GraphJob
from graphopt.build._inputs import FileDigests, files_behind, stored_bytes
from graphopt.build._tuning import tuned_batch_tokens
from graphopt.cache import RunCache
from graphopt.errors import BadInput
from graphopt.evaluate import (
    Bindings,
    ClosingCheck,
    Coverage,
    Untold,
    check_graph,
    check_whole,
    coverage,
)
from graphopt.export import Exported, Source
from graphopt.families import Assumption, PackageContext
from graphopt.interface import Interface
from graphopt.package import CalibratedOn, RunnablePackage, Staging
from graphopt.pipeline import EditRecord, RunHooks, place_of
from graphopt.recipes import OptimizeOptions, Recipe
from graphopt.runtime import CPU
from graphopt.targets import Target
from graphopt.verify import KernelWorker, clear_reproducers

__all__ = ["Job"]


@dataclass
class Job:
    """What a run has so far. Call `transform`, `compile` and `compare` in this order.

    `exported` are the graphs of the source: each goes its own way, and they are one package. With a `cache`,
    `transform` continues from what is there; `export_cached` is for the report.
    """

    source: Source
    exported: Sequence[Exported]
    target: Target
    recipe: Recipe
    options: OptimizeOptions
    bindings: Bindings
    out: Path
    staging: Staging
    clock: Clock
    digests: FileDigests
    kernels: KernelWorker = field(default_factory=KernelWorker)
    cache: RunCache | None = None
    export_cached: bool = False
    closing: ClosingCheck = field(default_factory=lambda: ClosingCheck("not run"))
    max_batch_tokens: int | None = None
    coverage: Mapping[str, Coverage] | None = None

    def __post_init__(self) -> None:
        self.graphs = [self._graph(exported) for exported in self.exported]
        given = self.options.calibration
        if given is not None and not any(graph.context.calibration for graph in self.graphs):
            raise BadInput(
                f"{self.source.name} reads no text, or nobody knows how: it cannot be calibrated on {given}",
                hint="Give arrays for its inputs in an .npz file.",
            )
        self.task, self.family = self.exported[0].task, self.exported[0].family
        self.notes: list[str] = []
        models = [exported.model for exported in self.exported]
        self.files = files_behind(self.source, models)
        self.digests.begin(self.files.values())
        self.source_weights = stored_bytes(models)

    def _graph(self, exported: Exported) -> GraphJob:
        scratch = self.staging.scratch / exported.role
        scratch.mkdir()
        return GraphJob(
            exported,
            self.target,
            self.recipe,
            self.options,
            self.bindings,
            scratch,
            self.out.with_name(f"{self.out.name}.mismatch"),
            self.clock,
            self.kernels,
            self.cache,
        )

    def follow(self, decisions: Mapping[str, Any]) -> None:
        """Take over the measured decisions of a lock. `BadInput` where they rest on other data."""
        for graph in self.graphs:
            graph.context.decisions.update(_of_role(decisions, graph.exported.role))
            graph.context.require_calibration()

    def transform(self, hooks: RunHooks | None = None) -> None:
        """Run the recipe over every graph; see `GraphJob.transform`."""
        for graph in self.graphs:
            graph.transform(hooks or RunHooks())

    def edits(self) -> tuple[tuple[str, EditRecord], ...]:
        """The edits that passes proposed, in order, with the names of their steps."""
        return tuple(edit for graph in self.graphs for edit in graph.edits())

    def clear_mismatches(self) -> None:
        """Take away what an earlier run left beside the package to show failed edits, but for this run's."""
        failed = {place_of(edit.identity) for _, edit in self.edits() if edit.verdict == "failed"}
        clear_reproducers(self.graphs[0].reproducers, keep=failed)

    def compile(self) -> None:
        """Have the target write the graphs, and the family and it what belongs beside them."""
        first = self.exported[0]
        with self.clock.phase("compile", f"compiling for {self.target.name}"):
            parts = {graph.exported.role: graph.compile(self.staging.package) for graph in self.graphs}
            if first.family is not None and first.source_dir is not None:
                context = parts.get("model") or PackageContext(self.interface(), parts=parts)
                self.notes += first.family.package_files(
                    first.source_dir, first.config or {}, self.staging.package, context
                )
            self.notes += self.target.package_files(first.source_dir, self.staging.package, parts)

    def compare(self) -> None:
        """Run the closing check: of every graph, and of the whole where they are several."""
        budget, trusted = self.recipe.budget, self.options.trust_remote_code
        with self.clock.phase("check", "comparing with the source"):
            models, checks = {}, []
            for graph in self.graphs:
                compared = check_graph(
                    self.source,
                    graph.exported,
                    self.target,
                    graph.result.adapters,
                    budget,
                    graph.legal_inputs(),
                    folder=self.staging.package,
                    file=graph.file,
                    assumptions=list(graph.context.assumptions.values()),
                    trust_remote_code=trusted,
                )
                models[graph.exported.role] = compared.package
                checks.append(compared.check)
                if len(self.graphs) == 1:
                    self.max_batch_tokens = tuned_batch_tokens(compared, graph.context, budget)
            if len(self.graphs) > 1:
                checks.append(check_whole(self.exported, models, budget, self.assumptions(), trusted))
            self.closing = checks[0]
            for check in checks[1:]:
                self.closing = self.closing.and_then(check)

    def cover(self) -> None:
        """Find out, once its manifest is written, where the package's nodes run, if its target's execution
        provider may leave some to others. `BadInput` where it runs on that provider not at all."""
        if self.coverage is not None or self.target.provider == CPU:
            return
        with self.clock.phase("check", "looking where nodes run"):
            try:
                self.coverage = coverage(RunnablePackage.load(self.staging.package))
            except Untold as error:
                self.coverage = {}
                self.notes.append(f"Where nodes run is not known: {error.message}.")

    def interface(self) -> Interface:
        """That of the source as a whole."""
        first = self.exported[0]
        if first.family is None or len(self.exported) == 1:
            return first.interface
        return first.family.interface({exported.role: exported.interface for exported in self.exported})

    def assumptions(self) -> list[Assumption]:
        """What the graphs were made under, each once."""
        by_key = {a.key: a for graph in self.graphs for a in graph.context.assumptions.values()}
        return list(by_key.values())

    def sizes(self) -> dict[str, tuple[int, ...]]:
        """Legal sizes of the dimensions of an .onnx source, as far as somebody said them."""
        if self.family is not None:
            return {}
        return self.graphs[0].legal_inputs().sizes(self.interface())

    def calibrated_on(self) -> CalibratedOn | None:
        """What passes calibrated on, if any did."""
        for graph in self.graphs:
            if (found := graph.context.calibrated) is not None:
                return CalibratedOn.model_validate(found)
        return None

    def decisions(self) -> dict[str, Any]:
        """Choices that were made by measuring; several graphs' are by role."""
        by_role = {graph.exported.role: graph.context.decisions for graph in self.graphs}
        return by_role["model"] if "model" in by_role else dict(by_role)


def _of_role(decisions: Mapping[str, Any], role: str) -> Mapping[str, Any]:
    """Those of one graph: several graphs' are by role."""
    return decisions if role == "model" else decisions.get(role, {})
