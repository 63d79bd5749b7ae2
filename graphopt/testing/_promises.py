"""What every pass promises, checked on one graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from graphopt.errors import CheckFailed
from graphopt.families import Case
from graphopt.interface import Interface, adapt_feeds, adapt_results
from graphopt.ir import graph_hash, infer_types
from graphopt.pipeline import (
    Context,
    Contract,
    Edit,
    Mismatch,
    NoAdapter,
    Outcome,
    Pass,
    PassRecord,
    RunHooks,
    RunResult,
    UndeclaredChange,
    apply,
)
from graphopt.plugins import run_recipe
from graphopt.recipes import Budget, Recipe, Step
from graphopt.testing._example import Example, specified
from graphopt.testing._execution import Array, outputs, session
from graphopt.verify import EditVerifier, KernelWorker, compare, tolerance_of

__all__ = ["PROMISES", "Broken", "check", "result_hash"]

PROMISES: Mapping[str, str] = {
    "completes": "it raises nothing and leaves a well-formed graph",
    "deterministic": "a second run over the same graph gives the same graph, in another process too",
    "idempotent": "run over its own result, it finds nothing (unless it says that it is not idempotent)",
    "proposes": "making the edits without applying them leaves the graph as it was",
    "undoes": "every edit can be undone without a trace",
    "honest": "the graph differs from the one before exactly if an edit was applied",
    "interface": "inputs and outputs stay, or an adapter says how old feeds become new ones",
    "contract": "results are what its contract says",
}
_LONGEST_SUM = 256
"""Terms of the longest sum in an example, which is small: tolerances grow by its root."""
_MANY = 200
"""Proposals, each refused, after which a pass counts as going on for ever: examples have tens of nodes."""
_LARGE = np.float32(1e4)
"""Scale of large inputs: squares and sums of them are finite in float32, and a softmax of them is sharp."""
_SPECIAL = np.asarray([np.nan, np.inf, -np.inf, -0.0, 0.0, 1e-40, 3e38], np.float32)


class Broken(AssertionError):
    """A pass broke `promise` on `example`, as `said`."""

    def __init__(self, promise: str, example: Example, said: str) -> None:
        super().__init__(f"{promise}: {said}")
        self.promise = promise
        self.example = example
        self.said = said


@dataclass
class _Run:
    """A pass after it ran over a fresh graph; `before` and `after` are hashes, which names do not change."""

    model: ir.Model
    result: RunResult = field(default_factory=RunResult)
    before: str = ""
    after: str = ""
    renamed: bool = False

    @property
    def record(self) -> PassRecord:
        return self.result.records[0]


def check(cls: type[Pass], example: Example, kernels: KernelWorker) -> bool:
    """Hold the installed pass `cls` to its promises on `example`; raises `Broken` for the first it breaks.

    True if it changed the graph. `kernels` runs what its edits take away beside what they put there.
    """
    step = Step(cls.name, example.options(cls.name))
    try:
        changed = _check(cls, step, example)
        if changed:
            _check_edits(step, example, kernels)
        return changed
    except Broken:
        raise
    except Mismatch as error:
        raise Broken("contract", example, error.message) from error
    except UndeclaredChange as error:
        raise Broken("proposes", example, str(error)) from error
    except CheckFailed as error:
        promise = "interface" if isinstance(error.__cause__, NoAdapter) else "completes"
        raise Broken(promise, example, error.message) from error
    except Exception as error:
        raise Broken("completes", example, f"{type(error).__name__}: {error}") from error


def _check(cls: type[Pass], step: Step, example: Example) -> bool:
    def broken(promise: str, said: str) -> Broken:
        return Broken(promise, example, said)

    first = _run(step, example.model(), example)
    if first.record.skipped:
        return False
    second = _run(step, example.model(), example)
    if (second.after, _edits(second)) != (first.after, _edits(first)):
        raise broken("deterministic", "two runs over the same graph differ")
    if first.record.edits:
        _check_dry_runs(cls, step, example, first.before)
    elif first.renamed:  # the run was a dry one
        raise broken("proposes", "names changed, and there was no edit")
    if (first.after != first.before) != bool(first.record.applied):
        raise broken(
            "honest",
            f"{first.record.applied} edits were applied, and the graph is "
            + ("another" if first.after != first.before else "the same"),
        )
    changed = bool(first.record.applied)
    if changed:
        _check_interface(example, first)
        _check_contract(cls.configure(step.options).effective_contract(), example, first)
    if cls.idempotent and changed:
        again = _run(step, first.model, example)
        if again.record.applied:
            raise broken("idempotent", f"a second run applied: {again.record.edits[0].summary}")
    return changed


def result_hash(cls: type[Pass], example: Example) -> str:
    """The hash of what the pass makes of the graph; what it raised, where it did."""
    try:
        return _run(Step(cls.name, example.options(cls.name)), example.model(), example).after
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def _run(step: Step, model: ir.Model, example: Example) -> _Run:
    infer_types(model)
    run, state = _Run(model, before=graph_hash(model)), _state(model)
    run.result = run_recipe(model, Recipe("check", "", Budget(), (step,)), example.context(model))
    run.after = graph_hash(model)
    run.renamed = _state(model) != state
    return run


def _edits(run: _Run) -> list[tuple[str, str, str]]:
    return [(edit.identity, edit.summary, edit.outcome) for edit in run.record.edits]


def _check_dry_runs(cls: type[Pass], step: Step, example: Example, before: str) -> None:
    def undone(graph: ir.Graph, edit: Edit) -> None:
        apply(graph, edit, "check").undo()

    attempts: tuple[tuple[str, Callable[[ir.Graph, Edit], None]], ...] = (
        ("proposes", lambda graph, edit: None),
        ("undoes", undone),
    )
    model = example.model()
    infer_types(model)
    state = _state(model)
    for promise, attempt in attempts:  # each leaves the model as it was
        context = example.context(model)
        instance = cls.configure(step.options)
        for graph in (model.graph, *(() if cls.main_graph_only else tuple(model.graph.subgraphs()))):
            for count, summary in enumerate(_refused(instance, graph, context, attempt)):
                if count == _MANY:
                    raise Broken(promise, example, f"refused {_MANY} times, it goes on: {summary}")
                if graph_hash(model) != before or _state(model) != state:
                    raise Broken(promise, example, f"the graph changed at: {summary}")


def _state(model: ir.Model) -> list[object]:
    """Names of nodes, in order, and of what they use and make; names of weights, in any order."""
    nodes = [
        (node.name, *(value and value.name for value in (*node.inputs, *node.outputs)))
        for node in model.graph.all_nodes()
    ]
    return [*nodes, sorted(model.graph.initializers)]


def _refused(
    instance: Pass, graph: ir.Graph, context: Context, attempt: Callable[[ir.Graph, Edit], None]
) -> Iterator[str]:
    """Drive a pass that is refused every edit; what it proposed, one by one, and its end."""
    generator = instance.edits(graph, context)
    outcome: Outcome | None = None
    while True:
        try:
            proposal = generator.send(outcome)
        except StopIteration:
            yield "the end"
            return
        outcome = None
        if isinstance(proposal, Edit):
            attempt(graph, proposal)
            outcome = Outcome.REFUSED
            yield proposal.summary


def _check_interface(example: Example, run: _Run) -> None:
    model = example.model()
    infer_types(model)
    old, new = Interface.of(model), Interface.of(run.model)
    if not run.result.adapters and old != new:
        raise Broken("interface", example, f"{old} became {new}, and there is no adapter")
    if [spec.name for spec in old.outputs] != [spec.name for spec in new.outputs]:
        raise Broken("interface", example, "outputs have other names")
    known = {value.name or "" for value in run.model.graph.inputs}
    for case in example.cases():
        fed = set(adapt_feeds(run.result.adapters, case.feeds))
        if not {spec.name for spec in new.inputs} <= fed <= known:
            raise Broken(
                "interface", example, f"the adapters feed {sorted(fed)}; the graph takes {sorted(known)}"
            )
        return


def _check_edits(step: Step, example: Example, kernels: KernelWorker) -> None:
    """As `graphopt optimize` checks them: on legal calls of its family, else on given inputs and guesses."""
    model = example.model()
    context = example.context(model)
    infer_types(model)
    interface, given = Interface.of(model), example.given(model)
    verifier = EditVerifier(interface, context.domain, arrays=given, worker=kernels)
    hooks = RunHooks(verifier=verifier)
    run_recipe(model, Recipe("check", "", Budget(), (step,)), context, hooks=hooks)


def _check_contract(contract: Contract, example: Example, run: _Run) -> None:
    old, new = session(example.model()), session(run.model)
    for case in _all_cases(contract, example):
        expected = outputs(old, case.feeds)
        adapters = run.result.adapters
        got = adapt_results(adapters, outputs(new, adapt_feeds(adapters, case.feeds)))
        for name, array in expected.items():
            tolerance = tolerance_of(contract, array.dtype, _LONGEST_SUM)
            verdict = compare(*specified(array, got[name], case.compare.get(name)), tolerance)
            if not verdict:
                said = f"{contract}: output {name!r} at {case.name}: {verdict.reason}"
                raise Broken("contract", example, said)


def _all_cases(contract: Contract, example: Example) -> Iterator[Case]:
    """The example's cases; those of seeded inputs with large numbers too, and with special ones if exact."""
    rng = np.random.default_rng(0)
    for case in example.cases():
        yield case
        if contract.kind == "lossy" or case.compare:
            continue
        yield Case(f"{case.name} with large numbers", {n: _larger(a) for n, a in case.feeds.items()}, {})
        if contract.kind == "exact":
            feeds = {name: _with_specials(array, rng) for name, array in case.feeds.items()}
            yield Case(f"{case.name} with NaN, infinities and zeros", feeds, {})


def _with_specials(array: Array, rng: np.random.Generator) -> Any:
    if array.dtype.kind != "f":
        return array
    with np.errstate(over="ignore"):  # float16 has no 3e38
        special = rng.choice(_SPECIAL, array.shape).astype(array.dtype)
    return np.where(rng.random(array.shape) < 0.3, special, array)


def _larger(array: Array) -> Any:
    return np.asarray(array * _LARGE, array.dtype) if array.dtype in (np.float32, np.float64) else array
