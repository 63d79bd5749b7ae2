"""A graph and what a recipe made of it, as the view of both that the report has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from graphopt.ir import infer_types, node_name
from graphopt.pipeline import PassRecord
from graphopt.report._graph_history import history
from graphopt.report._graph_parts import Clues, Part, Wiring, parts_of, result_parts
from graphopt.report._graph_side import Provenance, side_of
from graphopt.report._graph_view import GraphSide, GraphView

__all__ = ["SourceGraph", "graph_side"]

_MOST = 256
"""Parts; with more, a layer is one. A judgement: 64 layers of four parts can still be scrolled through."""


@dataclass(frozen=True)
class SourceGraph:
    """A graph as it came, remembered while passes change it; `view` is what became of it."""

    side: GraphSide
    parts: Mapping[str, Part]
    clues: Mapping[str, Part]
    constant: frozenset[str]
    coarse: bool

    @classmethod
    def of(cls, model: ir.Model) -> SourceGraph:
        """`model` as it is now, of which names alone are kept. It is given types; no weight is read."""
        infer_types(model)
        wiring = Wiring(model.graph)
        parts, clues = parts_of(wiring)
        coarse = len(set(parts.values())) > _MOST
        if coarse:
            parts, clues = _coarser(parts), Clues(_coarser(clues.parts), clues.layers)
        return cls(
            side_of(model, wiring, parts, Provenance()),
            {node_name(node): part for node, part in parts.items()},
            {node_name(node): part for node, part in clues.parts.items()},
            frozenset(map(node_name, wiring.constant)),
            coarse,
        )

    def view(self, model: ir.Model, records: Sequence[PassRecord]) -> GraphView:
        """The source beside `model`, which the steps of `records` made of it."""
        made, wiring = history(records), Wiring(model.graph)
        parts = result_parts(wiring, made, self.parts, self.clues)
        if self.coarse:
            parts = _coarser(parts)
        steps = {record.step: n for n, record in enumerate(records)}
        return GraphView(
            before=self.side, after=side_of(model, wiring, parts, Provenance(made, self.constant, steps))
        )


def graph_side(model: ir.Model) -> GraphSide:
    """A graph of which nothing more is known than what is in it. It is given types; no weight is read."""
    infer_types(model)
    wiring = Wiring(model.graph)
    parts, _ = parts_of(wiring)
    if len(set(parts.values())) > _MOST:
        parts = _coarser(parts)
    return side_of(model, wiring, parts, Provenance())


def _coarser(parts: Mapping[ir.Node, Part]) -> dict[ir.Node, Part]:
    return {node: Part(part.stack, part.layer) for node, part in parts.items()}
