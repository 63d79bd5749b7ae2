"""Mixtures of experts: the part of a graph that runs tokens through their experts, and what it computes."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from graphopt.ir import evaluate, extract, same_dim, static_dim, used_values

__all__ = ["Experts", "Formula", "find_experts"]

Array = np.ndarray[Any, Any]
_TOKENS = 5  # a judgement: several experts are met, and a body of large weights runs in a moment
_SPREAD = 1e-4  # of the deviation: a judgement, between another order of sums and another formula
_WEIGHT_RANK = 3  # [experts, in, out]


@dataclass(frozen=True)
class Formula:
    """y[t] = sum over the k experts e of t of w[t, e] (W2[e] (g sigmoid(alpha g) (u + beta)) + b2[e]).

    g and u are the gate and the rest of W1[e] x[t] + b1[e], g at most `limit`, u within plus and minus it.
    They alternate (`interleaved`) or are its halves; weights are [experts, in, out] (`turned`) or
    [experts, out, in].
    """

    alpha: float
    beta: float
    limit: float
    interleaved: bool
    turned: bool

    def __call__(self, x: Array, ids: Array, weights: Array, parts: tuple[Array, ...]) -> Array:
        w1, w2, *biases = parts
        if not self.turned:
            w1, w2 = w1.swapaxes(1, 2), w2.swapaxes(1, 2)
        y = np.zeros((len(x), w2.shape[2]), np.float32)
        for token, slot in np.ndindex(*ids.shape):
            expert = ids[token, slot]
            h = x[token] @ w1[expert] + (biases[0][expert] if biases else 0)
            gate, up = (h[::2], h[1::2]) if self.interleaved else np.split(h, 2)
            gate, up = np.minimum(gate, self.limit), np.clip(up, -self.limit, self.limit)
            with np.errstate(over="ignore"):
                inner = gate / (1 + np.exp(-self.alpha * gate)) * (up + self.beta)
            y[token] += weights[token, slot] * (inner @ w2[expert] + (biases[1][expert] if biases else 0))
        return y


# Mixtral, Qwen and most others use SwiGLU; gpt-oss clamps at 7 and takes the sigmoid of 1.702 g.
_SILU = {"alpha": 1.0, "beta": 0.0, "limit": float("inf")}
_CLAMPED = {"alpha": 1.702, "beta": 1.0, "limit": 7.0}
_FORMULAS = tuple(
    Formula(**numbers, interleaved=interleaved, turned=turned)
    for numbers in (_SILU, _CLAMPED)
    for interleaved in (False, True)
    for turned in (False, True)
)


@dataclass(frozen=True)
class Experts:
    """y [tokens, hidden] from x, the experts int64[tokens, k] of each token and their weights.

    `parts` are W1, W2 and, where there are biases, b1 and b2: constants, a row for each expert.
    """

    x: ir.Value
    ids: ir.Value
    weights: ir.Value
    y: ir.Value
    parts: tuple[ir.Value, ...]
    k: int
    formula: Formula


def find_experts(
    graph: ir.Graph, topk: ir.Node, known: dict[Hashable, Formula | None]
) -> Experts | str | None:
    """What the choice that `topk` makes is used for, where that is experts; why not, where it nearly is.

    The part of the graph between the choice and the one value that all of it leads to is run on random
    tokens and weights and compared with what is known of experts, so that its spelling does not matter.
    `known` keeps the answers for equal parts.
    """
    ids = topk.outputs[1]
    k = static_dim(ids, -1)
    region, y = _region(graph, ids)
    if y is None or k is None or len(ids.shape or ()) != 2:
        return None
    parts = _parts(graph, y, ids)
    if not parts:
        return None
    if isinstance(parts, str):
        return parts
    weights = _weights(graph, y, ids, k)
    x = _tokens(region, ids, weights, y) if weights is not None else None
    if x is None or weights is None:
        return "the tokens or their router weights are not a single value"
    key = _signature(region, parts)
    if key not in known:
        known[key] = _formula(graph, x, ids, weights, y, parts)
    formula = known[key]
    if formula is None:
        return "its experts are not gated linear units"
    return Experts(x, ids, weights, y, parts, k, formula)


def _region(graph: ir.Graph, ids: ir.Value) -> tuple[list[ir.Node], ir.Value | None]:
    """The nodes that need `ids`, up to the first value [tokens, hidden] through which all they make goes."""
    made, waiting = {ids}, {(user, index) for user, index in ids.uses()}
    region: list[ir.Node] = []
    start = False
    for node in graph:
        start = start or node is ids.producer()
        if not start or made.isdisjoint(used_values(node)):
            continue
        region.append(node)
        waiting = {(user, index) for user, index in waiting if user is not node}
        y = node.outputs[0]
        if not waiting and len(node.outputs) == 1 and _is_row_for_each(y, ids):
            return region, y
        if any(output.is_graph_output() for output in node.outputs):
            return region, None
        made.update(node.outputs)
        waiting.update(use for output in node.outputs for use in output.uses())
    return region, None


def _is_row_for_each(y: ir.Value, ids: ir.Value) -> bool:
    """Whether `y` is float[tokens, size], `ids` being [tokens, k]."""
    if y.dtype != ir.DataType.FLOAT or y.shape is None or ids.shape is None or len(y.shape) != 2:
        return False
    return same_dim(y.shape[0], ids.shape[0])


def _before(graph: ir.Graph, y: ir.Value, ids: ir.Value) -> Iterator[ir.Node]:
    """The nodes that `y` needs, the last first, without going beyond what makes `ids`."""
    stop, needed = ids.producer(), {y}
    for node in reversed(graph):
        if node is stop:
            return
        if not needed.isdisjoint(node.outputs):
            needed.update(used_values(node))
            yield node


def _parts(graph: ir.Graph, y: ir.Value, ids: ir.Value) -> tuple[ir.Value, ...] | str | None:
    """Constants of rank 3, and of rank 2 with a row for each of as many experts, by their use."""
    found = [
        value
        for node in reversed(list(_before(graph, y, ids)))
        for value in used_values(node)
        if value.is_initializer() and not value.is_graph_input() and value.dtype == ir.DataType.FLOAT
    ]
    matrices = list(dict.fromkeys(v for v in found if len(v.shape or ()) == _WEIGHT_RANK))
    if not matrices:
        return None
    if len(matrices) != 2:
        return f"its experts have {len(matrices)} weights, not two"
    experts = matrices[0].shape[0] if matrices[0].shape else None
    rows = dict.fromkeys(v for v in found if len(v.shape or ()) == 2 and v.shape and v.shape[0] == experts)
    hidden = static_dim(y, 1)
    first = next(
        (m for m in matrices if _inner(m, hidden) is not None and m is not _second(matrices, hidden)), None
    )
    second = _second(matrices, hidden)
    if first is None or second is None:
        return "the shapes of its experts' weights do not match"
    biases = sorted(rows, key=lambda v: static_dim(v, 1) == hidden)
    if len(biases) not in (0, 2):
        return "only one of its experts' weights has a bias"
    return (first, second, *biases)


def _inner(matrix: ir.Value, hidden: int | None) -> int | None:
    """The other size of a weight [experts, a, b] of which one is `hidden`."""
    sizes = [static_dim(matrix, 1), static_dim(matrix, 2)]
    if hidden not in sizes:
        return None
    sizes.remove(hidden)
    return sizes[0]


def _second(matrices: list[ir.Value], hidden: int | None) -> ir.Value | None:
    """The weight of half the inner size: it comes behind the gate."""
    a, b = matrices
    inner_a, inner_b = _inner(a, hidden), _inner(b, hidden)
    if (
        inner_a is None
        or inner_b is None
        or {inner_a, inner_b} != {min(inner_a, inner_b), 2 * min(inner_a, inner_b)}
    ):
        return None
    return a if inner_a < inner_b else b


def _tokens(region: list[ir.Node], ids: ir.Value, weights: ir.Value, y: ir.Value) -> ir.Value | None:
    """The one value [tokens, hidden] that the region is made from, besides `ids` and `weights`."""
    inside = {output for node in region for output in node.outputs}
    stack = [value for node in region for value in used_values(node) if value not in inside]
    seen, found = {ids, weights}, set()
    while stack:
        value = stack.pop()
        if value in seen or value.is_initializer():
            continue
        seen.add(value)
        node = value.producer()
        in_place = node is not None and node.op_type == "Transpose"
        if _is_row_for_each(value, ids) and static_dim(value, 1) == static_dim(y, 1) and not in_place:
            found.add(value)
        elif node is not None:
            stack.extend(used_values(node))
    return found.pop() if len(found) == 1 else None


def _weights(graph: ir.Graph, y: ir.Value, ids: ir.Value, k: int) -> ir.Value | None:
    """The last value float[tokens, k] on the way to `y`."""
    for node in _before(graph, y, ids):
        for value in used_values(node):
            if _is_row_for_each(value, ids) and static_dim(value, 1) == k and not value.is_initializer():
                return value
    return None


def _signature(region: list[ir.Node], parts: tuple[ir.Value, ...]) -> Hashable:
    nodes = tuple((n.op_type, n.domain, str(sorted(n.attributes.items()))) for n in region)
    return nodes, tuple(str(part.shape) for part in parts)


def _formula(
    graph: ir.Graph, x: ir.Value, ids: ir.Value, weights: ir.Value, y: ir.Value, parts: tuple[ir.Value, ...]
) -> Formula | None:
    piece = extract(graph, [y], cut=[x, ids, weights])
    rng = np.random.default_rng(0)
    arrays = []
    for part in parts:
        shape = part.shape.numpy() if part.shape is not None else ()
        array = rng.standard_normal(shape, np.float32)
        if len(shape) == _WEIGHT_RANK:
            array *= np.float32(4 / np.sqrt(min(shape[1:])))
        arrays.append(array)
        piece.graph.initializers[part.name or ""].const_value = ir.tensor(array)
    experts, hidden, k = arrays[0].shape[0], static_dim(x, 1) or 0, static_dim(ids, 1) or 0
    feeds: dict[str, Array] = {
        x.name or "": rng.standard_normal((_TOKENS, hidden), np.float32),
        ids.name or "": np.stack([rng.permutation(experts)[:k] for _ in range(_TOKENS)]),
        weights.name or "": rng.random((_TOKENS, k), np.float32),
    }
    for value in piece.graph.inputs:
        if value.name not in feeds and not value.is_initializer():
            if value.shape is None or value.dtype is None or len(value.shape) > 2:
                return None
            feeds[value.name or ""] = np.zeros([1, _TOKENS][-len(value.shape) :], value.dtype.numpy())
    try:
        (result,) = evaluate(piece, feeds)
    except Exception:  # onnxruntime has a class for each of its errors, with no common one
        return None
    given = [feeds[v.name or ""] for v in (x, ids, weights)]
    for formula in _FORMULAS:
        try:
            expected = formula(given[0], given[1], given[2], tuple(arrays))
        except ValueError:
            continue  # the weights lie the other way
        if result.shape == expected.shape and np.abs(result - expected).max() <= _SPREAD * expected.std():
            return formula
    return None
