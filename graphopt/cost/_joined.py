"""Nodes of a graph that a target's own kernels make one of, so that what lies between costs nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from graphopt.cost._work import GraphWork, NodeWork
from graphopt.ir.operators import BLOCK_PRODUCT, QUICK_GELU

__all__ = ["is_own", "joined"]

_OWN = "graphopt-"
"""What names of forms of our own kernels begin with, in a target's fingerprint."""
_GATE = "Mul"


def is_own(identity: Mapping[str, str]) -> bool:
    """Whether the kernels of `identity` are ours."""
    return identity.get("kernels", "").startswith(_OWN)


def joined(work: GraphWork, identity: Mapping[str, str]) -> tuple[NodeWork, ...]:
    """The nodes that are left where the kernels of `identity` run the graph.

    Ours take two products of the same rows, the one gating the other, as one: silu and multiplication happen
    where the sums are.
    """
    if not is_own(identity):
        return work.nodes
    makers = {result.name: node for node in work.nodes for result in node.results}
    used = Counter(name for node in work.nodes for name in node.operands)
    used.update(work.outputs)
    gone: set[str] = set()
    for node in work.nodes:
        if node.operator != _GATE or len(node.operands) != 2:
            continue
        for first, second in (node.operands, node.operands[::-1]):
            silu, up = makers.get(first), makers.get(second)
            gate = makers.get(silu.operands[0]) if silu is not None and _is_silu(silu) else None
            if silu is None or gate is None or up is None or gate is up:
                continue
            if _is_gated(gate, up) and used[first] == used[second] == used[silu.operands[0]] == 1:
                gone.update((silu.results[0].name, node.results[0].name))
                break
    return tuple(node for node in work.nodes if not node.results or node.results[0].name not in gone)


def _is_silu(node: NodeWork) -> bool:
    return node.operator == QUICK_GELU and len(node.operands) == 1 and bool(node.results)


def _is_gated(gate: NodeWork, up: NodeWork) -> bool:
    ours, theirs = gate.product, up.product
    if gate.operator != BLOCK_PRODUCT or up.operator != BLOCK_PRODUCT or ours is None or theirs is None:
        return False
    sizes = [(one.k, one.n, one.bits, one.block, one.zeros) for one in (ours, theirs)]
    return sizes[0] == sizes[1] and gate.operands[:1] == up.operands[:1]
