"""fuse-experts: a mixture of experts becomes one kernel."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from math import isfinite
from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir

from graphopt.ir import (
    MICROSOFT,
    Expr,
    LazyTensor,
    Reshaped,
    Transposed,
    evaluate,
    extract,
    lazy,
    orphans,
    static_dim,
    used_values,
)
from graphopt.pipeline import Context, Contract, Edit, Edits, Level, NearMiss, Nodes, OpsetRange, Pass

from ._experts import Experts, Formula, find_experts

_SAMPLES = 64  # rows of random logits: enough that another rule than the softmax cannot agree by chance
_ONE_TO_ONE = ("Softmax", "Cast", "CastLike", "Identity", "Transpose")
_KERNEL = {"T": "tensor(float)"}


class FuseExperts(Pass):
    """The part of a graph that runs tokens through their experts becomes onnxruntime's MoE.

    Before: weights, experts = TopK(..) per token; tokens sorted by expert, or weights gathered by token;
            gated linear units (SwiGLU, or the clamped one of gpt-oss), with or without biases; weighted sums
    After:  MoE(x, logits, W1, b1, W2, b2) * sum of the weights, where they are in the ratio of a softmax over
            the chosen logits, which come from what x comes from; else MoE(x, log(weights, spread over all
            experts), ..) * their sum
    What the part computes is found by running it, whatever its spelling. The choice itself stays as it is.
    Weights are turned and interleaved lazily: nothing is read. It goes before folding, which would
    take small weights apart.
    Refuses: another computation; a choice used otherwise; a target without the kernel.
    """

    name: ClassVar[str] = "fuse-experts"
    level: ClassVar[Level] = Level.RAISE
    contract: ClassVar[Contract] = Contract.reassociates()
    opsets: ClassVar[OpsetRange] = OpsetRange(18, None)
    main_graph_only: ClassVar[bool] = True

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        known: dict[Hashable, Formula | None] = {}
        for node in graph:
            if node.op_type != "TopK" or node.domain != "":
                continue
            found = find_experts(graph, node, known)
            if isinstance(found, str):
                yield NearMiss(node.name or "TopK", found)
            elif found is not None and not _has_kernel(context):
                yield NearMiss(node.name or "TopK", "the target has no kernel for experts")
            elif found is not None:
                yield _fused(graph, node, found)


def _has_kernel(context: Context) -> bool:
    return context.target is None or context.target.capabilities().supports(MICROSOFT, "MoE", 1, _KERNEL)


@dataclass(frozen=True)
class _Weights:
    """A weight or bias of all experts as the kernel reads it: [experts, out, in], gate and rest in turn."""

    value: ir.Value
    expr: Expr

    @classmethod
    def first(cls, value: ir.Value, formula: Formula) -> _Weights:
        expr = _turned(value, formula)
        if not formula.interleaved:
            experts, both, *rest = expr.shape
            order = (0, 2, 1, 3)[: 3 + len(rest)]
            halves = Reshaped(expr, (experts, 2, both // 2, *rest))
            expr = Reshaped(Transposed(halves, order), (experts, both, *rest))
        return cls(value, expr)

    @classmethod
    def second(cls, value: ir.Value, formula: Formula) -> _Weights:
        return cls(value, _turned(value, formula))


def _turned(value: ir.Value, formula: Formula) -> Expr:
    assert value.const_value is not None
    expr = lazy(value.const_value)
    return Transposed(expr, (0, 2, 1)) if formula.turned and len(expr.shape) > 2 else expr


def _fused(graph: ir.Graph, topk: ir.Node, experts: Experts) -> Edit:
    make = Nodes(experts.y.name or "experts")
    formula, (w1, w2, *biases) = experts.formula, experts.parts
    weights = [_Weights.first(w1, formula), _Weights.second(w2, formula)]
    if biases:
        weights += [_Weights.first(biases[0], formula), _Weights.second(biases[1], formula)]
    parts: list[ir.Value | None] = [_weight(w, make) for w in weights]
    first, second, b1, b2 = (*parts, None, None)[:4]
    logits = _logits(graph, topk, experts)
    y = make.op(
        "MoE",
        [experts.x, logits or _spread(topk, experts, make), first, b1, second, b2],
        "experts",
        like=experts.y,
        domain=MICROSOFT,
        **_attributes(experts),
    )
    # A sum of one is no number where scores are none, which the kernel passes over.
    axis = make.constant([1], np.int64, "axis")
    total = make.op("ReduceSum", [experts.weights, axis], "total", dtype=y.dtype, shape=[None, 1])
    y = make.op("Mul", [y, total], "weighted", like=experts.y)
    last = experts.y.producer()
    assert last is not None
    used = {value for node in make.nodes for value in node.inputs if value is not None}
    return Edit(
        f"MoE, {experts.k} of {weights[0].expr.shape[0]} experts",
        remove=orphans([last], used),
        insert=make.nodes,
        initializers=make.initializers,
        replace={experts.y: y},
        before=last,
    )


def _weight(weights: _Weights, make: Nodes) -> ir.Value:
    value = weights.value
    assert value.const_value is not None
    if weights.expr.identity == lazy(value.const_value).identity:
        return value
    return make.weight(LazyTensor(weights.expr), f"{value.name}/experts")


def _attributes(experts: Experts) -> dict[str, Any]:
    formula = experts.formula
    limit = {"swiglu_limit": formula.limit} if isfinite(formula.limit) else {}
    return {
        "k": experts.k,
        "activation_type": "swiglu",
        "swiglu_fusion": 1,
        "activation_alpha": formula.alpha,
        "activation_beta": formula.beta,
        "normalize_routing_weights": 1,
        **limit,
    }


def _spread(topk: ir.Node, experts: Experts, make: Nodes) -> ir.Value:
    """float[tokens, experts] whose softmax over the chosen ones gives their share of the weights."""
    scores = topk.inputs[0]
    assert scores is not None
    shape = list(scores.shape) if scores.shape is not None else None
    sizes = make.op("Shape", [scores], "sizes", dtype=ir.DataType.INT64, shape=[2])
    nothing = ir.tensor(np.zeros(1, np.float32))
    none = make.op("ConstantOfShape", [sizes], "none", dtype=ir.DataType.FLOAT, shape=shape, value=nothing)
    spread = make.op("ScatterElements", [none, experts.ids, experts.weights], "spread", like=none, axis=1)
    return make.op("Log", [spread], "logits", like=none)


def _logits(graph: ir.Graph, topk: ir.Node, experts: Experts) -> ir.Value | None:
    """float[tokens, experts] in the ratio of the softmax over the chosen of whose entries the weights are.

    None where it has nothing to do with the tokens: the kernel chooses others than TopK among equal scores,
    and passes over those that are not numbers. Scores of tokens are equal or no numbers where tokens are.
    """
    value = topk.inputs[0]
    if value is not None and not _share_a_source(value, experts.x):
        return None
    while value is not None:
        if _explains(graph, value, experts):
            return value
        node = value.producer()
        value = node.inputs[0] if node is not None and node.op_type in _ONE_TO_ONE else None
    return None


def _share_a_source(a: ir.Value, b: ir.Value) -> bool:
    """Whether some value that is no weight is behind both."""
    seen: tuple[set[ir.Value], set[ir.Value]] = ({a}, {b})
    stacks = ([a], [b])
    while any(stacks):
        for own, other, stack in zip(seen, reversed(seen), stacks, strict=True):
            value = stack.pop() if stack else None
            if value is None:
                continue
            if value in other:
                return True
            node = value.producer()
            new = (
                {v for v in used_values(node) if not v.is_initializer()} - own if node is not None else set()
            )
            own |= new
            stack.extend(new)
    return False


def _explains(graph: ir.Graph, logits: ir.Value, experts: Experts) -> bool:
    count = static_dim(logits, 1)
    if count is None or len(logits.shape or ()) != 2:
        return False
    piece = extract(graph, [experts.ids, experts.weights], cut=[logits])
    sample = np.random.default_rng(0).standard_normal((_SAMPLES, count)).astype(np.float32)
    if [v.name for v in piece.graph.inputs if not v.is_initializer()] != [logits.name]:
        return False
    try:
        ids, weights = evaluate(piece, {logits.name or "": sample})
    except Exception:  # onnxruntime has a class for each of its errors, with no common one
        return False
    chosen, best = np.take_along_axis(sample, ids, 1), np.sort(sample, 1)[:, -experts.k :]
    total = weights.sum(1, keepdims=True)
    return np.array_equal(np.sort(chosen, 1), best) and _close(weights / total, _softmax(chosen))


def _close(a: np.ndarray, b: np.ndarray) -> bool:
    return np.allclose(a, b, rtol=1e-5, atol=1e-6)


def _softmax(x: np.ndarray) -> np.ndarray:
    grown = np.exp(x - x.max(-1, keepdims=True))
    shares: np.ndarray = grown / grown.sum(-1, keepdims=True)
    return shares
