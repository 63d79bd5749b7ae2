"""The work of a mixture of experts, as graphopt lowers it."""

from __future__ import annotations

from collections.abc import Sequence

from graphopt.cost._decoder_shape import Experts
from graphopt.cost._dims import Shape
from graphopt.cost._work import NodeWork, Product, Result, Use
from graphopt.cost._writing import Row, Writing
from graphopt.ir.operators import FUSED_EXPERTS

__all__ = ["SIZES", "expert_weights", "through_experts"]

_TOKENS: Shape = ("batch", "rows")
_FLAT: Shape = ("batch*rows",)

SIZES: Sequence[Row] = (
    ("Shape", "texts", ["input_ids"], (1,), 64),
    ("Shape", "sequence", ["input_ids"], (1,), 64),
)
"""What is made of ids first, to give rows their shape again behind experts."""


def expert_weights(write: Writing, name: str, hidden: int, experts: Experts) -> None:
    """Those that are written as they came: what goes back to `hidden`, and what chooses."""
    write.weight(f"{name}.experts.down_proj", experts.count, hidden, experts.ffn)
    write.weight(f"{name}.gate.weight", experts.count, hidden)


def through_experts(write: Writing, name: str, x: str, hidden: int, experts: Experts) -> str:
    """All tokens in a row, each through its experts, what comes of them weighted by their shares."""
    k = experts.chosen
    write.constants(flat_shape=(64, 2), chosen=(64, 1), axis_of_total=(64, 1), width=(64, 1))
    flat = write.node("Reshape", f"{name}.flat", [x], (*_FLAT, hidden))
    router, sizes = write.stored[f"{name}.gate.weight"], (hidden, experts.count)
    scores = write.product(flat, router, f"{name}.scores", sizes, _FLAT, operator="Gemm")
    shares = write.node("Softmax", f"{name}.shares", [scores], (*_FLAT, experts.count))
    top, ids = Result(f"{name}.top", (*_FLAT, k), 32), Result(f"{name}.ids", (*_FLAT, k), 64)
    write.nodes.append(NodeWork(top.name, "TopK", "other", (top, ids), (shares,)))
    weights = top.name
    if experts.normalized:
        write.constants(axis_of_sum=(64, 1))
        total = write.node("ReduceSum", f"{name}.sum", [weights], (*_FLAT, 1))
        weights = write.node("Div", f"{name}.normalized", [weights, total], (*_FLAT, k))
    y = _fused(write, name, (flat, scores), hidden, experts)
    total = write.node("ReduceSum", f"{name}.total", [weights], (*_FLAT, 1))
    y = write.node("Mul", f"{name}.weighted", [y, total], (*_FLAT, hidden))
    write.rows([("Concat", "rows_shape", ["texts", "sequence"], (3,), 64)])
    return write.node("Reshape", f"{name}.apart", [y, "rows_shape"], (*_TOKENS, hidden))


def _fused(write: Writing, name: str, operands: tuple[str, str], hidden: int, experts: Experts) -> str:
    first = write.weight(f"{name}.experts.gate_up_proj/experts", experts.count, 2 * experts.ffn, hidden)
    both = (first, write.stored[f"{name}.experts.down_proj"])
    made, counts = f"{name}.experts", (experts.count, experts.chosen)
    size = sum(weight.bytes for weight in both)
    product = Product(first.name, hidden, 3 * experts.ffn, 32, 0, False, size, _FLAT, *counts)
    uses = tuple(Use(weight.name, weight.bytes, _FLAT, 0, *counts) for weight in both)
    result = Result(made, (*_FLAT, hidden), 32)
    write.nodes.append(NodeWork(made, FUSED_EXPERTS, "product", (result,), operands, uses, product))
    return made
