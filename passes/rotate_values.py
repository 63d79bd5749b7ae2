"""rotate-values: the values that an attention adds up in other coordinates, head by head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from graphopt.pipeline import Context, Contract, Edit, Edits, Level, NearMiss, Nodes, OpsetRange, Pass

from ._adapters import TurnedValues
from ._rotations import Rotation, rotation
from ._values import Coordinates, ValuePath, in_other_coordinates, value_path

_FINITE = 1e4
"""Magnitude of a cache that edits are checked up to: an infinite entry gets into all channels of its head."""


class RotateValues(Pass):
    """The values of an attention, [.., D] each, become v R, with R folded into the weights around it.

    Before: y = MatMul(heads of Attention(q, k, V = heads of MatMul(x, W) + b), O)
    After:  the same with W R, b R and R^T O, the same R [D, D] for each head: attention only adds values up
    Entries that are larger than the rest spread over a head, in both weights and in the cache (R2 of
    SpinQuant, Liu et al. 2024, arXiv 2405.16406; QuaRot, Ashkboos et al. 2024, arXiv 2404.00456). R is a
    randomized Hadamard matrix where one of the size is known. The cache holds v R then: an adapter says so.
    A value that is not finite makes all of its head so.
    Refuses: values that no product makes, or that are for others, too; heads whose size is unknown; weights
    that are used elsewhere; a cache of values that is no input and output of the graph.
    """

    name: ClassVar[str] = "rotate-values"
    level: ClassVar[Level] = Level.COMPRESS
    contract: ClassVar[Contract] = Contract.reassociates()
    opsets: ClassVar[OpsetRange] = OpsetRange(23, None)
    main_graph_only: ClassVar[bool] = True
    idempotent: ClassVar[bool] = False

    @dataclass(frozen=True)
    class Options:
        """seed: of the signs of R."""

        seed: int = 0

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        for node in list(graph):
            if node.domain != "" or node.op_type != "Attention":
                continue
            found = value_path(node)
            if isinstance(found, str):
                yield NearMiss(node.name or node.op_type, found)
            else:
                yield _turned(found, rotation(found.size, self.options.seed), self.options.seed)


def _turned(found: ValuePath, turn: Rotation, seed: int) -> Edit:
    def times(matrix: np.ndarray, label: str, make: Nodes, value: ir.Value) -> ir.Value:
        held = make.constant(np.ascontiguousarray(matrix), np.float32, f"{label}-matrix")
        return make.op("MatMul", [value, held], label, like=found.past)

    adapter = None
    if found.past is not None and found.present is not None:
        adapter = TurnedValues(found.past.name or "", found.present.name or "", found.size, seed)
    coordinates = Coordinates(
        "turned",
        values=lambda rows: turn.of(rows, 0),
        readers=lambda rows: turn.of(rows, 1),
        there=lambda make, past: times(turn.matrix, "fed", make, past),
        back=lambda make, cache, label: times(turn.matrix.T, label, make, cache),
        adapter=adapter,
        within=_FINITE,
    )
    return in_other_coordinates(found, coordinates, f"values of {found.size} channels a head turned")
