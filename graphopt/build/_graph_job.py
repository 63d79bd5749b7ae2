"""One graph of a run, from how it was exported to its file in the package."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphopt.build._calibration import calibration_of
from graphopt.build._clock import Clock
from graphopt.build._memory import ram_bytes
from graphopt.cache import RunCache, StepCache
from graphopt.errors import BadInput
from graphopt.evaluate import Bindings, FloatIsland, counted, float_islands, said_of, step_cost
from graphopt.export import Exported
from graphopt.families import Assumption, PackageContext
from graphopt.interface import Interface
from graphopt.ir import Scratch, node_name
from graphopt.package import GraphFile
from graphopt.pipeline import Context, EditRecord, Level, RunHooks, RunResult, whole_steps
from graphopt.plugins import adapter_to_json, build_steps, run_recipe
from graphopt.recipes import OptimizeOptions, Recipe
from graphopt.report import GraphView, SourceGraph
from graphopt.runtime import default_threads, forbid_fallback, with_options
from graphopt.verify import EditVerifier, KernelWorker

if TYPE_CHECKING:
    import onnx_ir as ir

    from graphopt.targets import Remark, Target

__all__ = ["GraphJob"]


def _noted(remarks: Sequence[Remark]) -> list[str]:
    """A line for each text, with the first node that it is said of, and how many more."""
    found: dict[str, list[str]] = {}
    for remark in remarks:
        found.setdefault(remark.text, []).append(remark.node)
    return [
        f"{text} (node {names[0]!r}{f' and {len(names) - 1} more' if len(names) > 1 else ''})."
        for text, names in found.items()
    ]


@dataclass
class GraphJob:
    """A graph and what the run knows about it. Call `transform` and then `compile`.

    With a `cache`, `transform` continues from what is there. `scratch` is a folder for big intermediate
    weights, `reproducers` one for what shows a failed edit.
    """

    exported: Exported
    target: Target
    recipe: Recipe
    options: OptimizeOptions
    bindings: Bindings
    scratch: Path
    reproducers: Path
    clock: Clock
    kernels: KernelWorker
    cache: RunCache | None = None
    result: RunResult = field(default_factory=RunResult)
    islands: Sequence[FloatIsland] = ()

    def __post_init__(self) -> None:
        exported = self.exported
        self.source = SourceGraph.of(exported.model)
        self.context = Context(
            exported.model,
            target=self.target,
            domain=exported.domain() if exported.config is not None else None,
            states=self._carried() or {},
            config=exported.config or {},
            calibration=calibration_of(exported, self.options.calibration),
            task=exported.task,
            scratch=Scratch(self.scratch),
            max_ram=ram_bytes(self.options.max_ram),
            notes=list(exported.notes),
            adapters=self.result.adapters,
        )

    @property
    def file(self) -> str:
        """Where the graph's file lies in the package."""
        return self.target.place(self.exported.role, self.exported.model)

    @property
    def title(self) -> str:
        """What is going on, in words."""
        return "optimizing" if self.exported.role == "model" else f"optimizing the {self.exported.role}"

    def transform(self, hooks: RunHooks) -> None:
        """Run the recipe over the model, each edit checked if the options say so.

        Where `hooks` bring a verifier, what it finds does not stop the run. The cache is left alone then, and
        where they say which edits are allowed.
        """
        options = self.options
        own = self._verifier() if options.verify == "numeric" and hooks.verifier is None else None
        states = None
        if self.cache is not None and hooks.allow is None and hooks.verifier is None:
            states = self._states(self.cache)
            self._continue(states, own)
        if hooks.verifier is not None:
            options = replace(options, on_mismatch="rollback")

        def tell(step: str, index: int, count: int) -> None:
            title = f"{self.title}: {step} ({index + 1} of {count})"
            self.clock.say(title)
            self.context.progress = lambda text: self.clock.say(f"{title}: {text}")
            self.context.memory = states.results(index) if states is not None else None

        def done(index: int) -> None:
            if states is not None:
                states.keep(index, self.context, self.result, own.verdicts() if own is not None else {})

        watched = replace(
            hooks,
            verifier=hooks.verifier or own,
            reproducers=self.reproducers,
            progress=tell,
            done=done,
            weigh=_weighed,
        )
        with self.clock.phase("passes", self.title), contextlib.ExitStack() as running:
            if own is not None:
                running.enter_context(own)
            run_recipe(self.exported.model, self.recipe, self.context, options, watched, self.result)
        self.context.memory = None

    def _states(self, cache: RunCache) -> StepCache:
        options = self.options
        checks: Mapping[str, object] = {
            "verify": options.verify,
            "on mismatch": options.on_mismatch,
            "threads": default_threads(),
            "calibration": self.context.calibration and self.context.calibration.digest,
            **self.bindings.digests(),
        }
        steps = whole_steps(build_steps(self.recipe), options.stop_after)
        return cache.steps(self.exported, steps, self.target, checks, self.scratch)

    def _continue(self, states: StepCache, verifier: EditVerifier | None) -> None:
        """Take over the latest state that an earlier run left."""
        found = states.latest()
        if found is None:
            return
        self.clock.say(f"{self.title}: continuing after {found.records[-1].step}")
        self.exported = replace(self.exported, model=found.model)
        self.context.model = found.model
        self.context.notes[:] = found.notes
        self.context.assumptions.update(found.assumptions)
        self.context.decisions.update(found.decisions)
        self.context.spent.update(found.spent)
        self.result.records += found.records
        self.result.adapters += found.adapters
        if verifier is not None:
            verifier.remember(found.verdicts)

    def view(self) -> GraphView:
        """The graph as it was exported, and as it is."""
        return self.source.view(self.exported.model, self.result.records)

    def edits(self) -> list[tuple[str, EditRecord]]:
        """The edits that passes proposed, in order, with the names of their steps."""
        return [(record.step, edit) for record in self.result.records for edit in record.edits]

    def _verifier(self) -> EditVerifier:
        return EditVerifier(
            self.exported.interface,
            self.context.domain,
            arrays=self.bindings.arrays,
            sizes=self.bindings.dims,
            worker=self.kernels,
            threads=default_threads(),
        )

    def legal_inputs(self) -> Bindings:
        """What the package is compared on: where nobody said, samples that it may be calibrated on."""
        data, given = self.context.calibration, self.bindings
        if given.arrays or given.dims or data is None or data.unit != "samples":
            return given
        return Bindings(arrays=data.calls[-1], name=f"the last samples of {data.name}")

    def compile(self, folder: Path) -> PackageContext:
        """Have the target write the graph into `folder`; what a family may know of it."""
        model = self.exported.model
        if self.target.sizes:
            self._assume_sizes()
        forbids = not self.options.cpu_fallback
        with with_options(forbid_fallback) if forbids else contextlib.nullcontext():
            self.target.compile(model, folder / self.file)
        for note in _noted(self.target.capabilities().remarks(model)):
            self.context.note(note)
        if any(node.op_type == "QuantizeLinear" for node in model.graph):
            names = {v.name or "": node_name(node) for node in model.graph for v in node.outputs}
            nodes = self.target.loaded_nodes(folder / self.file)
            self.context.note(f"Once loaded, {self.file} is {counted(nodes) or 'not known'}.")
            self.islands = float_islands(nodes, names, self._reasons())
            for line in said_of(self.islands):
                self.context.note(line)
        shares = self.target.shares_cache(model, self._carried() or {})
        return PackageContext(Interface.of(model), self.file, share_buffer=shares)

    def _assume_sizes(self) -> None:
        """Note the sizes that the target compiles for, and that what is longer cannot be padded to them."""
        sizes = self.target.sizes
        inputs = self.exported.interface.inputs
        for name in sizes.keys() - {dim for spec in inputs for dim in spec.dims}:
            raise BadInput(f"--dim {name}: the model's inputs have no such dimension")
        longest = {
            spec.name: sizes[str(spec.dims[1])]
            for spec in inputs
            if len(spec.dims) > 1 and spec.dims[1] in sizes
        }
        said = ", ".join(f"{name} = {size}" for name, size in sizes.items())
        text = f"compiled for {said}: shorter calls are padded, larger batches run in several"
        self.context.assumptions["sizes"] = Assumption("sizes", text, longest=longest)

    def _reasons(self) -> dict[str, str]:
        """Why passes left nodes alone that they could have compressed, by name."""
        steps = [record for record in self.result.records if record.level == Level.COMPRESS.name.lower()]
        misses = [miss for record in steps for miss in record.near_misses]
        return {miss.where: miss.reason for miss in reversed(misses)}

    def _carried(self) -> dict[str, str] | None:
        """What its family says of the states that the graph has now."""
        part = self.exported.part()
        return None if part is None else dict(part.states(Interface.of(self.exported.model)))

    def adapters(self) -> list[dict[str, Any]]:
        """The adapters' entries in the manifest; several graphs' say whose they are."""
        whose = {} if self.exported.role == "model" else {"role": self.exported.role}
        return [adapter_to_json(adapter) | whose for adapter in self.result.adapters]

    def described(self) -> GraphFile:
        """The graph's entry in the manifest."""
        interface = Interface.of(self.exported.model)
        return GraphFile(
            file=self.file, inputs=interface.inputs, outputs=interface.outputs, states=self._carried()
        )


def _weighed(model: ir.Model) -> tuple[int, int]:
    cost = step_cost(model)
    return cost.bytes, cost.flops
