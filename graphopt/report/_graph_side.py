"""One graph as groups: counts, bytes and operations of each, and what made its nodes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median_low

import onnx_ir as ir

from graphopt.evaluate import step_flops, stored_by_node
from graphopt.ir import node_name
from graphopt.report._graph_history import Made
from graphopt.report._graph_layout import layout
from graphopt.report._graph_parts import SHARED, Part, Wiring
from graphopt.report._graph_view import (
    GraphEdge,
    GraphGroup,
    GraphSide,
    NodeEntry,
    NodeOrigin,
    OperatorShare,
)

__all__ = ["Provenance", "side_of"]

_MOST_NODES = 300
"""Listed of a group: a layer of an exporter's graph has some 100, and the view of 32 layers stays small."""
_MOST_KINDS = 2
"""Named of a block that has no name: a convolution or product, and what comes with it."""
_MOST_SOURCES = 24
"""Named of an edit: attention, with what turns keys and queries, has some 20."""


@dataclass(frozen=True)
class Provenance:
    """What nodes come from, by name; which of the source's were `constant`; the place of each step."""

    made: Mapping[str, Made] = field(default_factory=dict)
    constant: frozenset[str] = frozenset()
    steps: Mapping[str, int] = field(default_factory=dict)

    def order(self, edit: str) -> tuple[int, int]:
        """By which edits are sorted."""
        step, _, number = edit.rpartition(":")
        return self.steps.get(step, 0), int(number)

    def fuses(self, name: str) -> bool:
        """Whether the node stands for several of the source's, constants aside."""
        return name in self.made and sum(one not in self.constant for one in self.made[name].sources) > 1


def side_of(
    model: ir.Model, wiring: Wiring, parts: Mapping[ir.Node, Part], provenance: Provenance
) -> GraphSide:
    """The groups of `model`, whose nodes are of `parts`."""
    stored = stored_by_node(model)
    sizes: Counter[ir.Node] = Counter()
    for node, size in stored.items():
        if node is not None:
            sizes[wiring.top[node]] += size
    for node in wiring.nodes:
        if node in wiring.constant and wiring.users[node]:  # what turns a weight is no place for its bytes
            sizes[wiring.users[node][0]] += sizes.pop(node, 0)
    costs = {node: _Cost(node, sizes[node]) for node in wiring.nodes}
    members: dict[Part, list[ir.Node]] = {}
    for node in wiring.nodes:
        members.setdefault(parts[node], []).append(node)
    if stored.get(None):
        members.setdefault(SHARED, [])
    ordered = sorted(members, key=lambda part: _place(members[part], wiring))
    edges = _edges(wiring, parts)
    places = layout([part.id for part in ordered], [(edge.source, edge.target) for edge in edges])
    stacks = {part.stack for part in ordered if part.layer is not None}
    groups = []
    for part in ordered:
        group = _group(part, members[part], costs, wiring, provenance)
        x, y = places[part.id]
        more = stored.get(None, 0) if part == SHARED else 0
        busy = [node for node in members[part] if node not in wiring.constant]
        title = _title(part, _kinds(busy, costs), several=len(stacks) > 1)
        update = {"x": x, "y": y, "title": title, "weight_bytes": group.weight_bytes + more}
        groups.append(group.model_copy(update=update))
    return GraphSide(groups=groups, edges=edges, operators=_operators(costs))


class _Cost:
    """What a node of the top level costs, what its subgraphs hold with it."""

    def __init__(self, node: ir.Node, weight_bytes: int) -> None:
        self.weight_bytes = weight_bytes
        self.flops = step_flops(node)


def _place(nodes: Sequence[ir.Node], wiring: Wiring) -> int:
    """Where in the graph most of a group is: single nodes of it may be made early."""
    places = [wiring.at[node] for node in nodes if node not in wiring.constant]
    return median_low(places or [wiring.at[node] for node in nodes] or [0])


def _kinds(nodes: Sequence[ir.Node], costs: Mapping[ir.Node, _Cost]) -> list[str]:
    """Their operators, first those that compute most, then those that there are most of."""
    flops: Counter[str] = Counter()
    for node in nodes:
        flops[node.op_type] += costs[node].flops
    counts = Counter(node.op_type for node in nodes)
    return sorted(counts, key=lambda kind: (-flops[kind], -counts[kind], kind))


def _title(part: Part, kinds: Sequence[str], *, several: bool) -> str:
    if part == SHARED:
        return "shared: masks, positions, sizes" if kinds else "weights that no node uses"
    if part.is_block:
        return f"{part.stack}: {', '.join(kinds[:_MOST_KINDS])}"
    if part.layer is None:
        return f"{part.name} of {part.stack}" if part.name else part.stack
    layer = f"{part.stack} {part.layer}" if several else f"layer {part.layer}"
    return f"{layer}: {part.name}" if part.name else layer


def _operator(node: ir.Node) -> str:
    return node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}::{node.op_type}"


def _group(
    part: Part,
    nodes: Sequence[ir.Node],
    costs: Mapping[ir.Node, _Cost],
    wiring: Wiring,
    provenance: Provenance,
) -> GraphGroup:
    """Without a place yet."""
    inside = [inner for node in nodes for inner in (node, *wiring.inner[node])]
    origins = {
        made.edit: NodeOrigin(
            sources=list(made.sources[:_MOST_SOURCES]),
            left_out=max(0, len(made.sources) - _MOST_SOURCES),
            through=sorted(made.through, key=provenance.order),
        )
        for node in nodes
        if (made := provenance.made.get(node_name(node))) is not None
    }
    edits = {edit for origin, one in origins.items() for edit in (origin, *one.through)}
    ordered = sorted(edits, key=provenance.order)
    return GraphGroup(
        id=part.id,
        title="",
        layer=part.layer,
        operators=dict(Counter(map(_operator, inside)).most_common()),
        nodes=len(inside),
        weight_bytes=sum(costs[node].weight_bytes for node in nodes),
        flops=sum(costs[node].flops for node in nodes),
        fused=any(provenance.fuses(node_name(node)) for node in nodes),
        passes=list(dict.fromkeys(edit.rpartition(":")[0] for edit in ordered)),
        edits=ordered,
        nodes_listed=[_entry(node, provenance) for node in inside[:_MOST_NODES]],
        nodes_left_out=max(0, len(inside) - _MOST_NODES),
        origins=origins,
    )


def _entry(node: ir.Node, provenance: Provenance) -> NodeEntry:
    made = provenance.made.get(node_name(node))
    return NodeEntry(name=node_name(node), operator=_operator(node), edit=made.edit if made else "")


def _edges(wiring: Wiring, parts: Mapping[ir.Node, Part]) -> list[GraphEdge]:
    """What is computed in one group and used in another; constants are drawn nowhere."""
    values: dict[tuple[str, str], set[ir.Value]] = {}
    for node in wiring.nodes:
        for value in wiring.inputs[node]:
            maker = wiring.maker(value)
            if maker is not None and maker not in wiring.constant and parts[maker] != parts[node]:
                values.setdefault((parts[maker].id, parts[node].id), set()).add(value)
    return [GraphEdge(source=a, target=b, values=len(found)) for (a, b), found in values.items()]


def _operators(costs: Mapping[ir.Node, _Cost]) -> list[OperatorShare]:
    """By operator of the top level; what is in subgraphs counts for the node that holds them."""
    found: dict[str, list[_Cost]] = {}
    for node, cost in costs.items():
        found.setdefault(_operator(node), []).append(cost)
    shares = [
        OperatorShare(
            operator=operator,
            nodes=len(each),
            weight_bytes=sum(cost.weight_bytes for cost in each),
            flops=sum(cost.flops for cost in each),
        )
        for operator, each in found.items()
    ]
    return sorted(shares, key=lambda share: (-share.weight_bytes, -share.flops, -share.nodes, share.operator))
