"""What of a package its target's execution provider runs, why it left the rest, and what that costs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from graphopt.errors import GraphoptError
from graphopt.evaluate._assignment import AssignedNode, assigned_nodes
from graphopt.evaluate._profile import Traced, traced
from graphopt.ir import infer_types, load_model
from graphopt.package import RunnablePackage
from graphopt.targets import Target, Unsupported

__all__ = ["Coverage", "CoverageRow", "Fallback", "coverage", "coverage_of"]

NOT_TAKEN = "the provider did not take it"
"""Why a node fell back that the target's own tables say nothing against."""
_COPIES = ("MemcpyFromHost", "MemcpyToHost")
"""Nodes that onnxruntime puts between providers with memory of their own."""


@dataclass(frozen=True)
class CoverageRow:
    """Nodes of one operator on one provider, and their share of the time of all nodes, if that was measured.

    Nodes are counted as they were shared out. What a provider then fuses or compiles is timed under another
    name: such a row counts none, and rows whose nodes it took have a share of 0.
    """

    provider: str
    operator: str
    count: int
    share: float | None = None


@dataclass(frozen=True)
class Fallback:
    """A node that runs on another provider than the target's, and why."""

    node: str
    operator: str
    provider: str
    reason: str


@dataclass(frozen=True)
class Coverage:
    """Where the nodes of one graph run. `provider` is the target's.

    `crossings` are values that one provider makes and another takes, None where nodes have no names by which
    that is known. `copies` are the nodes that copy such
    values between memories, `copy_share` their share of the time and `fallback_share` that of nodes on other
    providers, without copies; None where nothing was timed, for the reason in `untimed`.
    """

    provider: str
    rows: tuple[CoverageRow, ...]
    fallbacks: tuple[Fallback, ...] = ()
    crossings: int | None = 0
    copies: int | None = None
    copy_share: float | None = None
    fallback_share: float | None = None
    untimed: str = ""

    @property
    def nodes(self) -> int:
        """All of them, as they were shared out."""
        return sum(row.count for row in self.rows)


def coverage(package: RunnablePackage, *, timed: bool = True) -> dict[str, Coverage]:
    """Where the nodes of each of the package's graphs run, by role, as sessions of its target tell.

    `timed`: it is run on legal inputs, as `profile` runs it, and shares of time are measured.
    Raises `BadInput` where sessions do not tell, or are not on the target's provider at all.
    """
    target = package.target()
    assigned = {role: assigned_nodes(package, role) for role in package.manifest.graphs}
    traces: Mapping[str, Traced] = {}
    untimed = "" if timed else "it was not run"
    if timed:
        try:
            traces = traced(package)
        except GraphoptError as error:
            untimed = error.message
    found = {}
    for role, nodes in assigned.items():
        model = load_model(package.path / package.manifest.graphs[role].file)
        found[role] = coverage_of(model, target, nodes, traces.get(role), untimed)
    return found


def coverage_of(
    model: ir.Model,
    target: Target,
    nodes: Sequence[AssignedNode],
    trace: Traced | None = None,
    untimed: str = "",
) -> Coverage:
    """The same of one graph: `nodes` are its record, `trace` seconds by provider and operator."""
    left = [node for node in nodes if node.provider != target.provider]
    reasons = _reasons(model, target) if left else _Reasons(())
    seconds = {} if trace is None else trace.by_operator()
    total = sum(seconds.values())
    timed = total > 0
    copying = sum(s for (_, operator), s in seconds.items() if operator in _COPIES)
    elsewhere = sum(
        s
        for (provider, operator), s in seconds.items()
        if provider != target.provider and operator not in _COPIES
    )
    return Coverage(
        target.provider,
        tuple(_rows(nodes, seconds, total)),
        tuple(
            Fallback(node.name or node.operator, node.operator, node.provider, reasons.of(node))
            for node in left
        ),
        _crossings(model, nodes),
        None if trace is None else trace.count(_COPIES),
        copying / total if timed else None,
        elsewhere / total if timed else None,
        untimed,
    )


def _rows(
    nodes: Iterable[AssignedNode], seconds: Mapping[tuple[str, str], float], total: float
) -> list[CoverageRow]:
    """Most nodes first, by provider; without copies, which nobody shared out."""
    counts = Counter((node.provider, node.operator) for node in nodes)
    made = {key: 0 for key, s in seconds.items() if s > 0 and key not in counts and key[1] not in _COPIES}
    providers = Counter({provider: 0 for provider, _ in made})
    for (provider, _), count in counts.items():
        providers[provider] += count
    return sorted(
        (
            CoverageRow(
                provider, operator, count, seconds.get((provider, operator), 0.0) / total if total else None
            )
            for (provider, operator), count in (dict(counts) | made).items()
        ),
        key=lambda row: (-providers[row.provider], row.provider, -row.count, -(row.share or 0), row.operator),
    )


def _reasons(model: ir.Model, target: Target) -> _Reasons:
    """What the target's tables have against nodes of `model`."""
    infer_types(model)
    tables = target.capabilities()
    return _Reasons((*tables.unsupported(model), *tables.left_to_others(model)))


class _Reasons:
    """Of each node by its name; of nodes without one by their operator, if that has a single reason."""

    def __init__(self, found: Sequence[Unsupported]) -> None:
        self._by_name = {one.node: one.reason for one in found}
        self._by_operator: dict[str, set[str]] = {}
        for one in found:
            self._by_operator.setdefault(one.operator.rpartition("::")[2], set()).add(one.reason)

    def of(self, node: AssignedNode) -> str:
        if node.name:
            return self._by_name.get(node.name, NOT_TAKEN)
        known = self._by_operator.get(node.operator, set())
        return next(iter(known)) if len(known) == 1 else NOT_TAKEN


def _crossings(model: ir.Model, nodes: Sequence[AssignedNode]) -> int | None:
    """Values made on one provider and taken on another, once for each provider that takes them."""
    if len({node.provider for node in nodes}) < 2:
        return 0
    if not all(node.name for node in model.graph):
        return None
    where = {node.name: node.provider for node in nodes if node.name}
    crossings = set()
    for node in model.graph:
        here = where.get(node.name or "")
        for value in node.inputs:
            maker = None if value is None else value.producer()
            there = None if maker is None else where.get(maker.name or "")
            if value is not None and here and there and here != there:
                crossings.add((value.name, here))
    return len(crossings)
