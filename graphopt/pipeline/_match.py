"""Finding places in a graph with onnxscript's pattern language."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir
from onnxscript.rewriter import pattern

__all__ = ["Match", "Pattern", "find"]


class Pattern:
    """A subgraph to look for: a function of an op builder and named inputs (onnxscript's language).

    `Pattern(lambda op, x: op.Mul(x, op.Sigmoid(x)))`; set `commute` to also try Add and Mul with swapped
    operands. Constants are left as named inputs and checked by the pass, so that a refusal can say why.
    """

    def __init__(self, function: Callable[..., Any], *, commute: bool = False) -> None:
        rule = pattern.RewriteRule(function, lambda op, **_: None)
        self._rules = rule.commute() if commute else [rule]

    def at(self, graph: ir.Graph, node: ir.Node) -> Match | None:
        """The match whose last node is `node`, if any. No inner value may be used outside the match."""
        for rule in self._rules:
            if found := rule.match(None, graph, node):  # type: ignore[arg-type]
                return Match(dict(found.bindings), tuple(found.nodes), node)
        return None


@dataclass(frozen=True)
class Match:
    """A place found: values by the pattern's input names, the matched nodes, and the last of them."""

    bindings: dict[str, Any]
    nodes: tuple[ir.Node, ...]
    root: ir.Node

    def __getitem__(self, name: str) -> ir.Value:
        return self.bindings[name]  # type: ignore[no-any-return]


def find(graph: ir.Graph, patterns: Sequence[Pattern]) -> Iterator[tuple[int, Match]]:
    """Matches in graph order with the index of the pattern that hit; the graph may change between them."""
    for node in graph:
        for index, candidate in enumerate(patterns):
            if match := candidate.at(graph, node):
                yield index, match
                break
