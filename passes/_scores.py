"""Reading attention weights that are spelled out: softmax(softcap(scale q K^T) + masks)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from graphopt.ir import (
    const_of,
    constant_factor,
    either_order,
    only_user,
    producer,
    run_from,
    same_dim,
    sample_of,
    scalar_operand,
)
from graphopt.pipeline import Context, Nodes

from ._masks import FORBIDDING, floor

__all__ = [
    "Mask",
    "Scores",
    "before_max_subtraction",
    "combined_mask",
    "is_computed",
    "keys_before_transpose",
    "leads_to_product",
    "queries_before_scaling",
    "read_scores",
    "unscaled",
]

_LARGE = -1e30  # e^-1e30 is 0 beside any score, and a score added to it stays finite
_ON_THE_WAY = ("Add", "Div", "Mul", "Tanh", "Where")


@dataclass(frozen=True)
class Mask:
    """What is done to scores before the softmax: `value` times `factor` is added to them, or (`keep`, `drop`)
    they become `forbidding` where the condition `value` is false, or true."""

    value: ir.Value
    kind: str
    factor: float = 1.0
    forbidding: float = 0.0


@dataclass
class Scores:
    """q [batch, heads, sequence, size] and K^T [batch, heads, size, total], each before its scaling."""

    q: ir.Value
    transposed_k: ir.Value
    scale: float = 1.0
    softcap: float = 0.0
    masks: list[Mask] = field(default_factory=list)


def before_max_subtraction(softmax: ir.Node) -> tuple[ir.Value, tuple[ir.Node, ...]]:
    """What `softmax` is of, and its users: y where it reads y - max(y), the softmax of which is the same."""
    x = softmax.inputs[0]
    assert x is not None
    sub = producer(x, "Sub")
    largest = producer(sub.inputs[1], "ReduceMax") if sub is not None else None
    if sub is None or largest is None or largest.inputs[0] is not sub.inputs[0] or sub.inputs[0] is None:
        return x, (softmax,)
    axes = const_of(largest.inputs[1]) if len(largest.inputs) > 1 else None
    last = axes is not None and axes.reshape(-1).tolist() in ([-1], [3])
    keeps: int = largest.attributes.get_int("keepdims", 1)
    return (sub.inputs[0], (sub, largest)) if last and keeps else (x, (softmax,))


def read_scores(value: ir.Value, users: Collection[ir.Node]) -> Scores | str | None:
    """The scores that `users` take the softmax of, `value`; why not, where they nearly are."""
    masks: list[Mask] = []
    factor, softcap = 1.0, 0.0
    if value.is_graph_output() or not {user for user, _ in value.uses()} <= {*users}:
        return f"the scores are used elsewhere: {value.name}"
    while (matmul := producer(value, "MatMul")) is None:
        cap, step, mask = _softcap(value), constant_factor(value), _masked(value, factor)
        if cap is not None and not softcap and factor == 1.0:
            softcap, factor, value = cap
        elif step is not None:
            factor, value = factor * step[0], step[1]
        elif mask is not None and not softcap:
            masks.append(mask[0])
            value = mask[1]
        else:
            node = value.producer()
            return f"{node.op_type if node else 'an input'} where scores or a mask are looked for"
        if only_user(value) is None:
            return f"the scores are used elsewhere: {value.name}"
    q, transposed_k = matmul.inputs
    if q is None or transposed_k is None:
        return None
    for_q, q = unscaled(q)
    for_k, transposed_k = unscaled(transposed_k)
    return Scores(q, transposed_k, factor * for_q * for_k, softcap, masks)


def unscaled(value: ir.Value) -> tuple[float, ir.Value]:
    """factor and x where `value` is factor * x; 1 and itself if it is not scaled."""
    factor = 1.0
    while (step := constant_factor(value)) is not None:
        factor, value = factor * step[0], step[1]
    return factor, value


def queries_before_scaling(q: ir.Value, make: Nodes) -> tuple[float, ir.Value]:
    """factor and x where `q` is factor * x, its heads split after that perhaps; or 1 and `q`."""
    moves: list[ir.Node] = []
    value = q
    while constant_factor(value) is None:
        node = value.producer()
        if node is None or node.domain != "" or node.op_type not in ("Reshape", "Transpose"):
            return 1.0, q
        if node.inputs[0] is None or only_user(value) is None:
            return 1.0, q
        moves.append(node)
        value = node.inputs[0]
    if only_user(value) is None:
        return 1.0, q
    factor, x = unscaled(value)
    for index, node in enumerate(reversed(moves)):
        inputs, like = [x, *node.inputs[1:]], node.outputs[0]
        attributes: dict[str, Any] = dict(node.attributes)
        x = make.op(node.op_type, inputs, f"queries{index or ''}", like=like, **attributes)
    return factor, x


def _softcap(value: ir.Value) -> tuple[float, float, ir.Value] | None:
    """c, the factor and x where `value` is c tanh(factor x / c)."""
    outer = constant_factor(value)
    tanh = producer(outer[1], "Tanh") if outer is not None else None
    if outer is None or tanh is None or tanh.inputs[0] is None or only_user(outer[1]) is None:
        return None
    factor, x = unscaled(tanh.inputs[0])
    return outer[0], outer[0] * factor, x


def _masked(value: ir.Value, factor: float) -> tuple[Mask, ir.Value] | None:
    """The last mask put on scores, and the scores before it."""
    add = producer(value, "Add")
    if add is not None:
        found = [(scores, mask) for scores, mask in either_order(add) if leads_to_product(scores)]
        return (Mask(found[0][1], "add", factor), found[0][0]) if len(found) == 1 else None
    where = producer(value, "Where")
    condition, then, otherwise = where.inputs if where is not None else (None, None, None)
    if condition is None:
        return None
    for kind, scores, constant in (("keep", then, otherwise), ("drop", otherwise, then)):
        forbidding = scalar_operand(constant, scores)
        if forbidding is not None and forbidding * factor <= FORBIDDING and scores is not None:
            return Mask(condition, kind, factor, forbidding), scores
    return None


def is_computed(product: ir.Node) -> bool:
    """Whether neither factor of a MatMul is a weight."""
    return all(value is not None and value.const_value is None for value in product.inputs)


def leads_to_product(value: ir.Value | None, longest: int = 8, *, computed: bool = False) -> bool:
    """Whether `value` is a product of matrices (`computed` ones), perhaps scaled, capped and masked."""
    node = value.producer() if value is not None else None
    if node is None or node.domain != "" or not longest:
        return False
    if node.op_type == "MatMul":
        return not computed or is_computed(node)
    floats = (v for v in node.inputs if v is not None and v.dtype != ir.DataType.BOOL)
    return node.op_type in _ON_THE_WAY and any(
        leads_to_product(v, longest - 1, computed=computed) for v in floats
    )


def combined_mask(masks: list[Mask], like: ir.Value, make: Nodes, context: Context) -> ir.Value | None:
    """One additive mask for all of `masks`, of the dtype of `like`; None where there are none.

    It is no lower than the runtime takes for a number where rows may be hidden whole: see `_masks.floor`.
    """
    total: ir.Value | None = None
    dtype = like.dtype
    assert dtype is not None
    kind = dtype.numpy()
    for index, mask in reversed(list(enumerate(masks))):
        value = mask.value
        least = floor(value, dtype, context)
        if mask.kind != "add":
            number = max(mask.forbidding, float(np.finfo(np.float32).min))
            if least is not None:  # so large that no score counts beside it
                number = max(min(number, _LARGE), least)
            seen = make.constant(0, kind, f"seen{index}") if total is None else total
            hidden = make.constant(number, kind, f"hidden{index}")
            both = [seen, hidden] if mask.kind == "keep" else [hidden, seen]
            shape = _dims(value) if total is None else _broadcast(_dims(value), _dims(total))
            total = make.op("Where", [value, *both], f"mask{index}", dtype=dtype, shape=shape)
            continue
        if mask.factor != 1.0:
            factor = make.constant(mask.factor, kind, f"factor{index}")
            value = make.op("Mul", [value, factor], f"mask{index}", like=value)
        if least is not None:
            lowest = make.constant(least, kind, f"least{index}")
            value = make.op("Max", [value, lowest], f"finite{index}", like=value)
        if total is not None:
            shape = _broadcast(_dims(total), _dims(value))
            value = make.op("Add", [total, value], f"masks{index}", dtype=dtype, shape=shape)
        total = value
    return total


_Dims = list[int | ir.SymbolicDim]


def _dims(value: ir.Value) -> _Dims | None:
    return None if value.shape is None else list(value.shape)


def _broadcast(a: _Dims | None, b: _Dims | None) -> _Dims | None:
    """The shape of a sum, where one of two sizes is 1 or both are the same."""
    if a is None or b is None:
        return None
    rank = max(len(a), len(b))
    pairs = zip([1] * (rank - len(a)) + a, [1] * (rank - len(b)) + b, strict=True)
    return [y if x == 1 else x if y == 1 or same_dim(x, y) else ir.SymbolicDim(None) for x, y in pairs]


def keys_before_transpose(turned: ir.Value, make: Nodes) -> ir.Value:
    """K [batch, heads, total, size] from its transpose: a value of the graph, or a new Transpose."""
    node = producer(turned, "Transpose")
    if node is not None and node.inputs[0] is not None:
        perm = list(node.attributes.get_ints("perm") or ())
        if perm == [0, 1, 3, 2]:
            return node.inputs[0]
        if len(perm) == 4:
            return _transposed(node.inputs[0], [perm[axis] for axis in (0, 1, 3, 2)], make)
    reshape = producer(turned, "Reshape")
    inner = producer(reshape.inputs[0], "Transpose") if reshape is not None else None
    first = producer(inner.inputs[0], "Reshape") if inner is not None else None
    k = first.inputs[0] if first is not None else None
    sample = sample_of(k) if k is not None and len(k.shape or ()) == 4 else None
    if k is not None and sample is not None:
        got = run_from(k, sample, [turned])
        if got is not None and np.array_equal(got[0], sample.swapaxes(-1, -2)):
            return k
    return _transposed(turned, [0, 1, 3, 2], make)


def _transposed(value: ir.Value, perm: list[int], make: Nodes) -> ir.Value:
    shape = None if value.shape is None else [value.shape[axis] for axis in perm]
    return make.op("Transpose", [value], "upright_keys", dtype=value.dtype, shape=shape, perm=perm)
