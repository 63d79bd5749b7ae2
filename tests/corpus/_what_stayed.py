"""How far a graph is lowered: its attention and norms as single kernels, and what is left spelled out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

NORMS = (
    "LayerNormalization",
    "SimplifiedLayerNormalization",
    "RMSNormalization",
    "SkipLayerNormalization",
    "SkipSimplifiedLayerNormalization",
)
LOWERED = {
    "causal": ("GroupQueryAttention",),
    "masked": ("Attention", "MultiHeadAttention"),
    "seq2seq": ("GroupQueryAttention", "Attention", "MultiHeadAttention"),
}
_BETWEEN = {"Cast", "Dropout", "Where", "Reshape", "Transpose", "Slice", "Mul", "Split", "Identity"}
_RANK_BELOW = 3


@dataclass
class Lowering:
    """Counts of kernels by name, and what stays."""

    kernels: dict[str, int] = field(default_factory=dict)
    stayed: list[str] = field(default_factory=list)


def lowering_of(
    model: ir.Model, which: str, *, attentions: int, norms: int, more: Sequence[ir.Model] = ()
) -> Lowering:
    """Compare what PyTorch does, `attentions` layers of attention and `norms` calls of norms, with `model`.

    `more` are further graphs of the same model.
    """
    nodes = [node for graph in (model, *more) for node in graph.graph.all_nodes()]
    found = Counter(node.op_type for node in nodes)
    names = (*NORMS, "Attention", "GroupQueryAttention", "MultiHeadAttention", "RotaryEmbedding")
    result = Lowering({name: found[name] for name in names if found[name]})
    lowered = sum(found[name] for name in LOWERED[which])
    if which == "causal" and found["Attention"]:
        result.stayed.append(f"{found['Attention']} x Attention, not GroupQueryAttention")
    spelled = sum(_weighs_values(node) for node in nodes)
    if spelled:
        result.stayed.append(f"{spelled} x attention as MatMul and Softmax")
    if not result.stayed and lowered < attentions:
        result.stayed.append(f"{attentions - lowered} x attention in another form")
    made = sum(found[name] for name in NORMS)
    loose = sum(_normalizes(node) for node in nodes)
    if made < norms:
        result.stayed.append(f"{norms - made} of {norms} norms ({loose} x ReduceMean)")
    elif loose:
        result.stayed.append(f"{loose} x norm that is no module of its own")
    return result


def _weighs_values(node: ir.Node) -> bool:
    """Whether a softmax over products of two computed values multiplies values: attention spelled out."""
    return (
        node.op_type == "Softmax"
        and not _of_a_projection(node)
        and any(
            user.op_type in ("MatMul", "Einsum", "Gemm") and _rank(user.outputs[0]) >= _RANK_BELOW
            for user in _users_beyond(node, 4)
        )
    )


def _of_a_projection(node: ir.Node) -> bool:
    """Whether what `node` is of was projected by a weight alone, as a dynamic convolution's kernel is."""
    source = node.inputs[0]
    while source is not None and (maker := source.producer()) is not None:
        if maker.op_type in ("MatMul", "Gemm"):
            return any(v is not None and v.const_value is not None for v in maker.inputs)
        if maker.op_type not in ("Add", "Reshape", "Transpose", "Cast", "Identity", "Unsqueeze"):
            return False
        computed = [v for v in maker.inputs[:2] if v is not None and v.const_value is None]
        if len(computed) != 1:
            return False
        source = computed[0]
    return False


def _rank(value: ir.Value) -> int:
    return len(value.shape) if value.shape is not None else _RANK_BELOW


def _users_beyond(node: ir.Node, depth: int) -> Iterator[ir.Node]:
    for output in node.outputs:
        for user, index in output.uses():
            if user.op_type in _BETWEEN and depth and index != 1:
                yield from _users_beyond(user, depth - 1)
            else:
                yield user


def _normalizes(node: ir.Node) -> bool:
    """Whether a ReduceMean leads to a root: variance, or the mean of squares."""
    return node.op_type == "ReduceMean" and any(
        user.op_type in ("Sqrt", "Rsqrt")
        or any(u.op_type in ("Sqrt", "Rsqrt") for u in _users_beyond(user, 0))
        for user in _users_beyond(node, 0)
    )
