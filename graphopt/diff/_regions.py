"""Pieces of two graphs that are not in both, each with what stands in its place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import onnx_ir as ir
from scipy.cluster.hierarchy import DisjointSet

from graphopt.diff._correspondence import Correspondence, nodes_of

__all__ = ["Place", "Region", "regions"]

_PROVENANCE = "graphopt.provenance"
_WIDELY_USED = 2
"""A value with more users is a border. A judgement: what a gate takes is used twice, a mask or a table of
positions in every layer. One more would join layers through what a norm hands to query, key and value; one
less would cut gates in two."""


@dataclass(frozen=True)
class Place:
    """A node: its name and its operator, with the domain where that is not ONNX's."""

    name: str
    operator: str


@dataclass(frozen=True)
class Region:
    """Nodes of the first graph, and those of the second that are there instead; either may be none.

    `outputs` are the values that the rest of the graph, the same on both sides, takes from it. `passes` are
    the steps that wrote the nodes of the second graph, as far as these say so.
    """

    before: tuple[Place, ...]
    after: tuple[Place, ...]
    outputs: tuple[str, ...]
    passes: tuple[str, ...]

    @property
    def kind(self) -> tuple[object, ...]:
        """Equal for regions in which the same operators stand for the same."""
        sides = (tuple(place.operator for place in side) for side in (self.before, self.after))
        return (*sides, self.passes)


def regions(a: ir.Graph, b: ir.Graph, matched: Correspondence) -> list[Region]:
    """The regions, in the order of their nodes.

    Changed nodes are of one region where one uses what the other makes, or where they make values that
    stand for each other. A value that has a counterpart, or has more than two users, is a border.
    """
    kept = set(matched.nodes.values())
    before = {node: n for n, node in enumerate(nodes_of(a)) if node not in matched.nodes}
    after = {node: n for n, node in enumerate(nodes_of(b)) if node not in kept}
    together: DisjointSet = DisjointSet([*before, *after])
    for side, counterparts in ((before, matched.values), (after, matched.back)):
        for node in side:
            for value in node.outputs:
                if value in counterparts or len(value.consumers()) > _WIDELY_USED:
                    continue
                for user in value.consumers():
                    if user in side:
                        together.merge(node, user)
    for value, other in matched.values.items():
        maker, twin = value.producer(), other.producer()
        if maker in before and twin in after:
            together.merge(maker, twin)
    pieces = [
        (
            sorted((n for n in subset if n in before), key=before.__getitem__),
            sorted((n for n in subset if n in after), key=after.__getitem__),
        )
        for subset in together.subsets()
    ]
    pieces.sort(key=lambda piece: before[piece[0][0]] if piece[0] else after[piece[1][0]])
    return [_region(old, new, matched) for old, new in pieces]


def _region(before: list[ir.Node], after: list[ir.Node], matched: Correspondence) -> Region:
    outputs = [
        *(v for node in after for v in node.outputs if v in matched.back),
        *(v for node in before for v in node.outputs if not after and v in matched.values),
    ]
    passes = dict.fromkeys(name for node in after for name in _passes(node))
    return Region(
        tuple(_place(node) for node in before),
        tuple(_place(node) for node in after),
        tuple(dict.fromkeys(value.name or "" for value in outputs)),
        tuple(passes),
    )


def _place(node: ir.Node) -> Place:
    domain = "" if node.domain in ("", "ai.onnx") else f"{node.domain}::"
    name = node.name or next((value.name for value in node.outputs if value.name), "") or ""
    return Place(name, f"{domain}{node.op_type}")


def _passes(node: ir.Node) -> Iterator[str]:
    said = node.metadata_props.get(_PROVENANCE)
    if said:
        yield said.split(" <- ")[0].rpartition(":")[0]
