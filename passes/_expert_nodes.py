"""The node that computes with experts in blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from graphopt.ir import MICROSOFT
from graphopt.pipeline import Edit, Nodes

from ._forms import Form

__all__ = ["ExpertWeight", "lacks", "packed_experts"]

_ZERO_POINTS = 11  # QMoE's input fc1_zero_points; fc2_zero_points is the next
_ROUTER_WEIGHTS = 14  # and router_weights


@dataclass(frozen=True)
class ExpertWeight:
    """Initializers uint8 [experts, N, bytes], float32 [experts, N, blocks] and perhaps packed zero points
    uint8 [experts, N, bytes], that stand for [experts, N, K].
    """

    weight: ir.Value
    scales: ir.Value
    zeros: ir.Value | None = None


def lacks(node: ir.Node) -> str | None:
    """What the MoE `node` does that QMoE does not."""
    if any(value is not None for value in node.inputs[6:]):
        return "QMoE has no third product"
    if node.attributes.get_int("use_sparse_mixer", 0):
        return "QMoE has no sparse mixer"
    return None


def packed_experts(
    node: ir.Node, make: Nodes, first: ExpertWeight, second: ExpertWeight, form: Form, accuracy_level: int
) -> Edit:
    """The MoE `node` as QMoE, with both weights in `form`.

    Where weights do not sum to one (normalize_routing_weights = 0), it is given them: its kernel for the CPU
    normalizes its own.
    """
    x, logits, _, b1, _, b2 = (*node.inputs, None)[:6]
    inputs: list[ir.Value | None] = [x, logits, first.weight, first.scales, b1]
    inputs += [second.weight, second.scales, b2]
    if first.zeros is not None or second.zeros is not None:
        inputs += [*[None] * (_ZERO_POINTS - len(inputs)), first.zeros, second.zeros]
    if not node.attributes.get_int("normalize_routing_weights", 0):
        shares = make.op("Softmax", [logits], "shares", like=logits, axis=-1)
        inputs += [*[None] * (_ROUTER_WEIGHTS - len(inputs)), shares]
    y = make.op(
        "QMoE",
        inputs,
        "nbits",
        like=node.outputs[0],
        domain=MICROSOFT,
        **dict[str, Any](node.attributes),
        expert_weight_bits=form.bits,
        block_size=form.block,
        accuracy_level=accuracy_level,
        weights_prepacked=0,
    )
    return Edit(
        f"{form.bits}-bit experts in blocks of {form.block}",
        remove=[node],
        insert=make.nodes,
        initializers=make.initializers,
        replace={node.outputs[0]: y},
    )
