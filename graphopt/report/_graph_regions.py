"""Blocks of a graph whose names say nothing: what lies between values that everything goes through."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir

if TYPE_CHECKING:
    from graphopt.report._graph_parts import Wiring

__all__ = ["regions"]

_MOST = 64
"""Blocks: what fits on a screen with its title legible, at some 12 pixels each."""


def regions(wiring: Wiring) -> dict[ir.Node, int]:
    """The number of the block that a node is in, from 1 on; constants are left out.

    A block ends where one value alone is used later on, of those that weights took part in: masks and sizes
    are used all over. One without weights belongs to that before. Beyond 64 neighbours are one.
    """
    order = [node for node in wiring.nodes if node not in wiring.constant]
    place = {node: n for n, node in enumerate(order)}
    last = {node: max((place[u] for u in wiring.users[node] if u in place), default=-1) for node in order}
    blocks: list[list[ir.Node]] = [[]]
    alive: set[ir.Node] = set()
    for node in order:
        blocks[-1].append(node)
        alive = {one for one in alive if last[one] > place[node]}
        if node in wiring.computed and last[node] > place[node]:
            alive.add(node)
        if len(alive) == 1 and alive == {node}:
            blocks.append([])
    merged = _merged([block for block in blocks if block], wiring)
    each = -(-len(merged) // _MOST)
    return {node: n // each + 1 for n, block in enumerate(merged) for node in block}


def _merged(blocks: list[list[ir.Node]], wiring: Wiring) -> list[list[ir.Node]]:
    found: list[list[ir.Node]] = []
    for block in blocks:
        if found and not any(map(wiring.heavy, block)):
            found[-1] += block
        else:
            found.append(list(block))
    return found
