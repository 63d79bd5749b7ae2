"""How far an almost-match got: the operators that a pass follows from an anchor on, step by step."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import onnx_ir as ir

from graphopt.pipeline._edit import NearMiss

__all__ = ["Trail"]

_MOST = 64  # nodes looked at for one anchor: several times the longest formula, and a bound on wide graphs


@dataclass(frozen=True)
class Trail:
    """What a pass looks for behind an anchor: one of the operators of each step, any of `over` in between.

    `begins` says of which nodes so much is right that they are not plainly something else; so do `least`
    steps. `otherwise` is wrong where all steps are there. `backwards` follows inputs, not users.
    """

    begins: Callable[[ir.Node], bool]
    steps: tuple[tuple[str, ...], ...]
    otherwise: str = ""
    over: tuple[str, ...] = ()
    least: int = 0
    backwards: bool = False

    def near_misses(self, graph: ir.Graph, told: set[ir.Node]) -> Iterator[NearMiss]:
        """A near miss for each anchor that is in `graph` yet, unless one of `told` is on its trail.

        `told` are the nodes that the pass proposed an edit for, or said something of.
        """
        for node in graph:
            if node.domain != "" or not self.begins(node):
                continue
            trail, steps = self._farthest(node)
            if steps < self.least or not told.isdisjoint([*trail, *self._next(trail[-1])]):
                continue
            told.update(trail)
            reason = self.otherwise if steps == len(self.steps) else self._astray(trail, steps)
            yield NearMiss(node.name or node.op_type, reason)

    def _farthest(self, anchor: ir.Node) -> tuple[list[ir.Node], int]:
        """The trail from `anchor` on that fits most steps, and how many."""
        best = trail, steps = [anchor], 0
        waiting, seen = deque([best]), {(anchor, 0)}
        while waiting and len(seen) < _MOST:
            trail, steps = waiting.popleft()
            if steps >= best[1]:
                best = trail, steps
            if steps == len(self.steps):
                break
            for node in self._next(trail[-1]):
                fits = node.op_type in self.steps[steps]
                after = (node, steps + fits)
                if node.domain == "" and (fits or node.op_type in self.over) and after not in seen:
                    seen.add(after)
                    waiting.append(([*trail, node], steps + fits))
        return best

    def _next(self, node: ir.Node) -> list[ir.Node]:
        if self.backwards:
            made = [value.producer() for value in node.inputs if value is not None]
            return [before for before in made if before is not None]
        return list(dict.fromkeys(user for value in node.outputs for user, _ in value.uses()))

    def _astray(self, trail: list[ir.Node], steps: int) -> str:
        wanted = " or ".join(self.steps[steps])
        found = " and ".join(sorted({node.op_type for node in self._next(trail[-1])}))
        if self.backwards:
            return f"{trail[-1].op_type} is of {found or 'an input'}, where {wanted} is looked for"
        matched = " -> ".join(node.op_type for node in trail)
        return f"{matched}, then {found or 'nothing'} where {wanted} is looked for"
