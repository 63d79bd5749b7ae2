"""Runs a recipe's steps over a model, checks after each, and keeps the record the report is made from."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Container, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import onnx_ir as ir

from graphopt.errors import BadInput, CheckFailed, GraphoptError
from graphopt.interface import Adapter
from graphopt.io import is_count, nearest
from graphopt.ir import (
    check_structure,
    content_of,
    graph_hash,
    infer_types,
    node_name,
    read_clock,
    stored_bytes,
)
from graphopt.pipeline._apply import EditError, apply
from graphopt.pipeline._context import Context
from graphopt.pipeline._edit import Edit, NearMiss, Outcome, Proof, place_of
from graphopt.pipeline._pass import Pass
from graphopt.pipeline._proofs import proof_holds
from graphopt.pipeline._record import EditRecord, Mismatch, PassCrashed, PassRecord, UndeclaredChange
from graphopt.pipeline._untouched import Untouched
from graphopt.pipeline._verifier import EditVerdict, Verifier
from graphopt.recipes import OptimizeOptions

__all__ = ["RunHooks", "RunResult", "run_steps", "weight_bytes", "whole_steps"]

NamedPass = tuple[str, Pass]
"""A configured pass and the name of its step: `pass`, and `pass#2` from the second use on."""
Size = tuple[int, int]
"""Nodes of a model, and bytes of its weights."""


@dataclass(frozen=True)
class RunHooks:
    """What takes part in a run and is no data.

    `verifier` checks each edit before it is applied. What it takes to see a failure again goes below
    `reproducers`. `allow`: identities of the edits that may be made, the others are refused; `verified`: of
    those that are checked (None: all). `progress` is told the name of a step, its index and how many there
    are; `done` the index of each step that ran to its end. `weigh` says what a call reads and computes of a
    model whose types are known, every size that varies being 1: bytes of weights, and operations.
    """

    verifier: Verifier | None = None
    reproducers: Path | None = None
    allow: Container[str] | None = None
    verified: Container[str] | None = None
    progress: Callable[[str, int, int], None] | None = None
    done: Callable[[int], None] | None = None
    weigh: Callable[[ir.Model], tuple[int, int]] | None = None


@dataclass
class RunResult:
    """What a run did: a record a step, and the adapters from the source's interface to the package's."""

    records: list[PassRecord] = field(default_factory=list)
    adapters: list[Adapter] = field(default_factory=list)


def run_steps(
    model: ir.Model,
    steps: Sequence[NamedPass],
    context: Context,
    options: OptimizeOptions | None = None,
    hooks: RunHooks | None = None,
    result: RunResult | None = None,
) -> RunResult:
    """Run `steps` over `model` in place, and record what happens in `result` as it does.

    Of the `options` those count that say what is checked and where to end: `verify`, `on_mismatch` and
    `stop_after`. Without a verifier among the `hooks` no edit is run.

    Steps that `result` has records of already are left out: `model` is what they made. Raises `CheckFailed`
    where a pass leaves the model broken, after undoing that edit or naming that pass, and `PassCrashed` where
    its code fails.
    """
    options, hooks = options or OptimizeOptions(), hooks or RunHooks()
    result = result if result is not None else RunResult()
    if options.verify != "off":
        problems = check_structure(model)
        if problems:
            raise BadInput(f"the model is broken before any pass: {problems[0]}")
    settled: str | None = None
    size: Size | None = None
    work: tuple[int, int] | None = None
    if result.records and hooks.weigh:  # a state that was kept after it was weighed, its types inferred
        work, settled = (result.records[-1].reads_after, result.records[-1].flops_after), graph_hash(model)
    steps, stop_edit = _until(steps, options.stop_after)
    for index, (name, instance) in list(enumerate(steps))[len(result.records) :]:
        if hooks.progress:
            hooks.progress(name, index, len(steps))
        limit = stop_edit if index == len(steps) - 1 else None
        contract = str(instance.effective_contract())
        record = PassRecord(name, instance.level.name.lower(), contract, instance.resolved())
        result.records.append(record)
        run = _PassRun(model, instance, context, options, hooks, limit, result.adapters, record)
        record.nodes_before, record.bytes_before = size or _size(model)
        record.reads_before, record.flops_before = work or _weighed(model, hooks)
        try:
            settled = run.run(settled)
        except (GraphoptError, OSError, MemoryError):
            raise
        except Exception as error:
            raise PassCrashed(name, type(instance), error) from error
        size = (record.nodes_after, record.bytes_after)
        work = record.reads_before, record.flops_before
        if record.modified and hooks.weigh:
            work, settled = _weighed(model, hooks), graph_hash(model)
        record.reads_after, record.flops_after = work
        if hooks.done and limit is None:
            hooks.done(index)
    return result


def _weighed(model: ir.Model, hooks: RunHooks) -> tuple[int, int]:
    if hooks.weigh is None:
        return 0, 0
    infer_types(model)
    return hooks.weigh(model)


def whole_steps(steps: Sequence[NamedPass], stop_after: str | None) -> list[NamedPass]:
    """The steps that run to their end, with their names. `BadInput` where `stop_after` names none."""
    found, limit = _until(steps, stop_after)
    return found if limit is None else found[:-1]


def _until(steps: Sequence[NamedPass], stop_after: str | None) -> tuple[list[NamedPass], int | None]:
    """The steps up to and with the one that `stop_after` names, and how many edits the last one may make."""
    stop_step, limit = _stop_point(stop_after)
    if stop_step is None:
        return list(steps), None
    names = [name for name, _ in steps]
    if stop_step not in names:
        near = nearest(stop_step, names)
        raise BadInput(
            f"--stop-after {stop_after!r}: the recipe has no such step",
            hint=f"Did you mean {near!r}?" if near else None,
        )
    return list(steps[: names.index(stop_step) + 1]), limit


def _stop_point(text: str | None) -> tuple[str | None, int | None]:
    if text is None:
        return None, None
    step, _, edit = text.partition(":")
    if edit and not is_count(edit):
        raise BadInput(f"--stop-after {text!r} is not of the form PASS[#N][:EDIT]")
    return step.removesuffix("#1"), int(edit) if edit else None


@dataclass
class _PassRun:
    """One step under way."""

    model: ir.Model
    instance: Pass
    context: Context
    options: OptimizeOptions
    hooks: RunHooks
    limit: int | None
    adapters: list[Adapter]
    record: PassRecord
    started: int = field(default_factory=read_clock)
    untouched: Untouched | None = None

    def run(self, settled: str | None) -> str | None:
        """Run it and complete the record.

        `settled` is the hash of the model where its types are inferred and nothing changed since, and so is
        what is returned.
        """
        record, model, started = self.record, self.model, time.perf_counter()
        size = (record.nodes_before, record.bytes_before)
        if (reason := self.context.left_out.get(self.instance.name)) is not None:
            record.skipped = reason
        elif self.context.opset not in self.instance.opsets:
            record.skipped = f"needs opset {self.instance.opsets}, the model is at {self.context.opset}"
        else:
            if settled is None:
                infer_types(model)
                settled = graph_hash(model)
            if self.options.verify != "off":
                self.untouched = Untouched(model)
            for graph in _graphs(model, self.instance):
                self._over(graph)
                if self._is_over():
                    break
            self._require_untouched(lambda known: known.check())
            if record.applied or graph_hash(model) != settled:
                _drop_uncalled(model)
                _restore_order(model)
                _complete_opset_imports(model)
                record.modified = graph_hash(model) != settled
                settled, size = None, _size(model)
            _check(model, record, self.options, self.hooks)
        record.nodes_after, record.bytes_after = size
        record.seconds = time.perf_counter() - started
        return settled

    def _is_over(self) -> bool:
        return self.limit is not None and self.record.applied >= self.limit

    def _over(self, graph: ir.Graph) -> None:
        generator = self.instance.edits(graph, self.context)
        if not isinstance(generator, Generator):
            raise CheckFailed(f"pass {self.record.step!r}: its edits are no generator: {generator!r:.80}")
        outcome: Outcome | None = None
        while not self._is_over():
            try:
                proposal = generator.send(outcome)
            except StopIteration:
                return
            if isinstance(proposal, NearMiss):
                self.record.near_misses.append(proposal)
                outcome = None
            elif isinstance(proposal, Edit):
                outcome = self._commit(graph, proposal)
            else:
                raise CheckFailed(f"pass {self.record.step!r} proposes what is no edit: {proposal!r:.80}")

    def _commit(self, graph: ir.Graph, edit: Edit) -> Outcome:
        step, number = self.record.step, len(self.record.edits) + 1
        identity = edit.identity(step)
        first, *others = edit.touches() or ("",)
        sources = f"{first} and {len(others)} more" if others else first
        removed = [node_name(node) for node in edit.remove]
        outcome, verdict = Outcome.REFUSED, None
        if self._is_allowed(identity) and proof_holds(edit, self.model):
            verdict = self._verified(edit, identity)
            outcome = (
                Outcome.ROLLED_BACK if verdict is not None and verdict.status == "failed" else Outcome.APPLIED
            )
        if outcome is Outcome.APPLIED:
            self._require_untouched(lambda known: known.before(edit))
            try:
                applied = apply(graph, edit, f"{step}:{number} <- {sources}")
            except EditError as error:
                raise CheckFailed(
                    f"pass {step!r} proposed an edit that cannot be applied: {error}"
                ) from error
            applied.commit()
            if self.untouched is not None:
                self.untouched.after(edit)
            self.context.assumptions |= {assumption.key: assumption for assumption in edit.assumes}
            if edit.adapter is not None:
                self.adapters.append(edit.adapter)
        self.record.edits.append(EditRecord.of(number, identity, edit, outcome, verdict, removed))
        return outcome

    def _require_untouched(self, look: Callable[[Untouched], None]) -> None:
        try:
            if self.untouched is not None:
                look(self.untouched)
        except ValueError as error:
            raise UndeclaredChange(self.record.step, str(error)) from error

    def _is_allowed(self, identity: str) -> bool:
        return self.hooks.allow is None or identity in self.hooks.allow

    def _verified(self, edit: Edit, identity: str) -> EditVerdict | None:
        """What the verifier says of the edit, not applied yet; raises where a failure is to stop the run."""
        verifier, wanted = self.hooks.verifier, self.hooks.verified
        if verifier is None or (wanted is not None and identity not in wanted):
            return None
        started = time.perf_counter()
        folder = self.hooks.reproducers and self.hooks.reproducers / place_of(identity)
        verdict = verifier.check(
            self.model,
            edit,
            edit.contract or self.instance.effective_contract(),
            self.adapters,
            assumptions=[*self.context.assumptions.values(), *edit.assumes],
            reads_since=self.started,
            save=None if edit.tentative else folder,
        )
        self.record.check_seconds += time.perf_counter() - started
        if verdict.status == "failed" and self.options.on_mismatch == "stop" and not edit.tentative:
            raise Mismatch(self.record, identity, edit.summary, verdict, folder, verifier.guesses)
        return verdict


def _graphs(model: ir.Model, instance: Pass) -> Iterator[ir.Graph]:
    yield model.graph
    if not instance.main_graph_only:
        yield from tuple(model.graph.subgraphs())


def _restore_order(model: ir.Model) -> None:
    position: dict[ir.Node, int] = {}
    for index, node in enumerate(model.graph.all_nodes()):
        position[node] = index
    for node in model.graph.all_nodes():
        for value in node.inputs:
            producer = value.producer() if value is not None else None
            if producer is not None and position.get(producer, -1) > position[node]:
                model.graph.sort()
                return


def _complete_opset_imports(model: ir.Model) -> None:
    used = {node.domain for node in model.graph.all_nodes()}
    for domain in used - set(model.opset_imports):
        model.opset_imports[domain] = 1


def _drop_uncalled(model: ir.Model) -> None:
    """Functions that no node calls any more go."""
    called: set[ir.OperatorIdentifier] = set()
    waiting = list(model.graph.all_nodes())
    while waiting:
        name = waiting.pop().op_identifier()
        if name in model.functions and name not in called:
            called.add(name)
            waiting += model.functions[name].all_nodes()
    for name in tuple(model.functions):
        if name not in called:
            del model.functions[name]


def _check(model: ir.Model, record: PassRecord, options: OptimizeOptions, hooks: RunHooks) -> None:
    started = time.perf_counter()
    applied = [e for e in record.edits if e.outcome == Outcome.APPLIED.value]
    if hooks.verifier is not None:
        parts = [f"{count} {verdict}" for verdict, count in Counter(e.verdict for e in applied).items()]
    else:
        proofs = Counter(e.proof for e in applied)
        parts = [f"{count} by {Proof(kind).value}" for kind, count in proofs.items() if kind is not None]
    if options.verify != "off":
        problems = check_structure(model) if record.modified or applied else []
        if problems:
            listing = "\n    ".join(problems[:5])
            raise CheckFailed(f"pass {record.step!r} left a broken graph:\n    {listing}")
        parts.insert(0, "structure")
    record.proved = ", ".join(parts)
    record.check_seconds += time.perf_counter() - started


def _size(model: ir.Model) -> Size:
    return count_nodes(model), weight_bytes(model)


def count_nodes(model: ir.Model) -> int:
    """Nodes of the main graph and every subgraph."""
    return sum(1 for _ in model.graph.all_nodes())


def weight_bytes(model: ir.Model) -> int:
    """Bytes of all initializers; weights that share their bytes count once."""
    seen: dict[object, int] = {}
    for graph in (model.graph, *model.graph.subgraphs()):
        for value in graph.initializers.values():
            tensor = value.const_value
            if tensor is not None:
                seen[content_of(tensor)] = stored_bytes(tensor)
    return sum(seen.values())
