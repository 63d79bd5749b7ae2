"""tie-weights: equal initializers become one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable
from typing import ClassVar

import onnx_ir as ir

from graphopt.ir import Expr, Transposed, has_data, lazy, same_content
from graphopt.pipeline import Context, Contract, Edit, Edits, Level, NearMiss, OpsetRange, Pass, Proof

_DEFAULT = "it holds what {!r} does, and is the default of an input, which a caller may change"


class TieWeights(Pass):
    """Initializers with equal dtype, shape and content are stored once.

    Before: two initializers of equal content, each with its own bytes
    After:  one, used in both places
    Refuses: initializers that are also graph inputs; weights without data (not bound to a checkpoint).
    """

    name: ClassVar[str] = "tie-weights"
    level: ClassVar[Level] = Level.IMPROVE
    contract: ClassVar[Contract] = Contract.exact()
    opsets: ClassVar[OpsetRange] = OpsetRange(7, None)

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        groups: dict[Hashable, list[ir.Value]] = defaultdict(list)
        values = sorted(graph.initializers.values(), key=ir.Value.is_graph_input)
        for value in values:
            tensor = value.const_value
            if tensor is None or not has_data(tensor) or value.is_graph_output():
                continue
            representatives = groups[(tensor.dtype, tuple(tensor.shape), _sample(lazy(tensor)))]
            for kept in representatives:
                assert kept.const_value is not None
                if not same_content(kept.const_value, tensor):
                    continue
                if value.is_graph_input():
                    yield NearMiss(value.name or "initializer", _DEFAULT.format(kept.name))
                else:
                    yield Edit(
                        f"{value.name} is {kept.name}",
                        replace={value: kept},
                        drop_initializers=[value],
                        proof=Proof.SAME_WEIGHT,
                    )
                break
            else:
                if not value.is_graph_input():
                    representatives.append(value)


def _sample(expr: Expr) -> Hashable:
    """A few elements, cheap to read: weights that differ mostly differ here already."""
    if isinstance(expr, Transposed):
        return ("transposed", expr.perm, _sample(expr.source))
    if expr.dtype == ir.DataType.STRING:
        return None
    return expr.read(
        (*(slice(0, 1) for _ in expr.shape[:-1]), *(slice(0, min(n, 64)) for n in expr.shape[-1:]))
    ).tobytes()
