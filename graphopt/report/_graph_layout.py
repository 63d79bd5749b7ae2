"""Where the groups of a graph are drawn: in layers from the inputs on, by the longest path."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

__all__ = ["layout"]


def layout(groups: Sequence[str], edges: Iterable[tuple[str, str]]) -> dict[str, tuple[float, float]]:
    """x and y of each of `groups`, which are in the order of the graph.

    y is the number of groups on the longest way to it; an edge against the order, which a part that is
    needed again later has, does not count. Groups of one y stand side by side, each as near as can be to what
    it takes its values from (Sugiyama, Tagawa and Toda 1981), around x = 0.
    """
    order = {group: n for n, group in enumerate(groups)}
    before: dict[str, list[str]] = {group: [] for group in groups}
    for source, target in edges:
        if order[source] < order[target]:
            before[target].append(source)
    rows: dict[str, int] = {}
    for group in groups:
        rows[group] = 1 + max((rows[source] for source in before[group]), default=-1)
    x: dict[str, float] = {}
    for row in range(max(rows.values(), default=-1) + 1):
        beside = [group for group in groups if rows[group] == row]
        beside.sort(key=lambda group: (_middle(before[group], x), order[group]))
        for place, group in enumerate(beside):
            x[group] = place - (len(beside) - 1) / 2
    return {group: (x[group], float(rows[group])) for group in groups}


def _middle(sources: Sequence[str], x: Mapping[str, float]) -> float:
    return sum(x[source] for source in sources) / len(sources) if sources else 0.0
