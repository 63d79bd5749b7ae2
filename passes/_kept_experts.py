"""Experts that the source holds in blocks of small integers, computed with as they are."""

from __future__ import annotations

from math import prod

import onnx_ir as ir

from graphopt.ir import Blocks, Expr, LazyTensor, Reshaped, lazy, stacked_blocks_of
from graphopt.pipeline import Edit, Nodes

from ._block_nodes import BLOCK_SIZES
from ._expert_nodes import ExpertWeight, lacks, packed_experts
from ._forms import Form

__all__ = ["kept_experts"]

_BITS = (4, 8)  # that QMoE's kernel for the CPU reads in blocks


def kept_experts(node: ir.Node, accuracy_level: int) -> Edit | str | None:
    """The MoE `node` as QMoE with the integers it came with, or why not; None where it came with none."""
    found = [stacked_blocks_of(lazy(value.const_value)) for value in _weights(node) if value.const_value]
    reason = next((blocks for blocks in found if isinstance(blocks, str)), None)
    if reason is not None:
        return f"its experts came in blocks, and are {reason}"
    pair = [blocks for blocks in found if isinstance(blocks, Blocks)]
    if not pair:
        return None
    forms = {Form(blocks.bits, blocks.block) for blocks in pair}
    if len(pair) < 2 or len(forms) > 1:
        return "its experts' two weights are not in blocks of one form"
    (form,) = forms
    reason = _unfit(pair, form) or lacks(node)
    if reason is not None:
        return reason
    make = Nodes(node.name or "experts")
    first, second = (_held(value, blocks, make) for value, blocks in zip(_weights(node), pair, strict=True))
    return packed_experts(node, make, first, second, form, 4 if accuracy_level == 4 else 0)


def _weights(node: ir.Node) -> list[ir.Value]:
    return [value for value in (node.inputs[2], node.inputs[4]) if value is not None]


def _unfit(pair: list[Blocks], form: Form) -> str | None:
    if form.bits not in _BITS:
        return f"its experts are of {form.bits} bits, and QMoE's kernel takes 4 and 8"
    if form.block not in BLOCK_SIZES:
        return f"its experts are in blocks of {form.block}, and kernels take 16 to 256"
    if any(blocks.width % form.block for blocks in pair):
        return f"rows of its experts are not a multiple of their blocks of {form.block}"
    return None


def _held(value: ir.Value, blocks: Blocks, make: Nodes) -> ExpertWeight:
    """Initializers of `blocks`, those of `value` [experts, N, K]."""
    assert value.const_value is not None
    experts, count, _ = value.const_value.shape.numpy()

    def held(expr: Expr, ending: str) -> ir.Value:
        stacked = Reshaped(expr, (experts, count, prod(expr.shape[1:])))
        return make.weight(LazyTensor(stacked), f"{value.name}/{ending}")

    zeros = None if blocks.zeros is None else held(blocks.zeros, "zeros")
    return ExpertWeight(held(blocks.packed, f"q{blocks.bits}"), held(blocks.scales, "scales"), zeros)
