"""What a runtime computes in floats between integers, and why."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from graphopt.targets import LoadedNode

__all__ = ["FloatIsland", "counted", "float_islands", "said_of"]

_UNKNOWN = "the runtime computes it in floats"


@dataclass(frozen=True)
class FloatIsland:
    """Nodes in floats that feed each other, beside integers: their names, operators, and why they are."""

    nodes: tuple[str, ...]
    operators: tuple[str, ...]
    reason: str


def counted(nodes: Iterable[LoadedNode]) -> str:
    """How many there are of each operator, most first."""
    return _counted(node.operator for node in nodes)


def float_islands(
    nodes: Sequence[LoadedNode], makers: Mapping[str, str], reasons: Mapping[str, str]
) -> tuple[FloatIsland, ...]:
    """The islands of a graph as it is loaded, in its order.

    `makers` are the names of nodes in the graph as it was written, by the values that they make. `reasons`
    are known by such names, or by that of a node which one was made of ("a" of "a/kept"); the first that is
    known counts for an island.
    """
    crossed = {name for node in nodes if node.kind == "widens" for name in node.outputs}
    crossed |= {name for node in nodes if node.kind == "rounds" for name in node.inputs}
    written = set(makers.values())
    groups: dict[str, list[LoadedNode]] = {}
    """By the values that a group makes; groups that a node joins become one."""
    for node in nodes:
        if node.kind == "floats":
            before = {id(groups[name]): groups[name] for name in node.inputs if name in groups}
            joined = [*itertools.chain(*before.values()), node]
            groups |= {name: joined for one in joined for name in one.outputs}
    found = []
    for group in {id(group): group for group in groups.values()}.values():
        if any(not crossed.isdisjoint((*node.inputs, *node.outputs)) for node in group):
            names = [_written(node, written, makers) for node in group]
            origins = (part for name in names for part in (name, name.rpartition("/")[0]))
            why = next((reasons[name] for name in origins if name in reasons), _UNKNOWN)
            found.append(FloatIsland(tuple(names), tuple(node.operator for node in group), why))
    return tuple(found)


def _written(node: LoadedNode, written: Container[str], makers: Mapping[str, str]) -> str:
    """What a node, or what it was made of, is called in the graph as it was written."""
    if node.name in written:
        return node.name
    made = (node.name, *node.outputs)
    return next((makers[name] for name in made if name in makers), node.name or node.operator)


def said_of(islands: Iterable[FloatIsland]) -> Iterator[str]:
    """A line for each reason, which counts operators and names the first node."""
    by_reason: dict[str, list[FloatIsland]] = {}
    for island in islands:
        by_reason.setdefault(island.reason, []).append(island)
    for reason, found in by_reason.items():
        operators = _counted(operator for island in found for operator in island.operators)
        yield f"In floats beside integers: {operators}, from {found[0].nodes[0]!r} on: {reason}."


def _counted(operators: Iterable[str]) -> str:
    made = Counter(operators)
    return ", ".join(f"{made[kind]} {kind}" for kind in sorted(made, key=lambda k: (-made[k], k)))
