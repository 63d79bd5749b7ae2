"""raise-attention: scaled dot-product attention becomes one operator with its cache inside."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import onnx_ir as ir

from graphopt.ir import (
    Ancestors,
    const_of,
    only_user,
    orphans,
    producer,
    same_dim,
    scalar_operand,
    static_dim,
)
from graphopt.pipeline import (
    Context,
    Contract,
    Edit,
    Edits,
    Level,
    NearMiss,
    Nodes,
    OpsetRange,
    Pass,
    Trail,
    assume_not_empty,
)

from ._masks import fitted, forbids, masks_whole_rows
from ._scores import (
    before_max_subtraction,
    combined_mask,
    is_computed,
    keys_before_transpose,
    leads_to_product,
    queries_before_scaling,
    read_scores,
    unscaled,
)
from ._sinks import MASKED, Sunk, with_factor


class RaiseAttention(Pass):
    """Attention, decomposed or with its cache outside, becomes the standard operator, the cache inside.

    Before: MatMul(Softmax(masked(softcap(MatMul(q, K^T) * scale))), V), or Attention(q, K, V, mask);
            the scale on scores, q or K, or its root on both; masks added, or put in by Where;
            K = Concat(past_key, k) and V = Concat(past_value, v), each head repeated for its queries
    After:  Attention(q, k, v, mask, past_key, past_value) -> y, present_key, present_value
    Queries that an operator gets scaled, before their heads are split perhaps, are scaled by it.
    With an attention sink, softmax([scores, sink]) without its last, y is multiplied with
    Sigmoid(ReduceLogSumExp(scores) - sink), the scores being one more result; so where that is the spelling.
    The subtraction of the largest score of a row goes with its softmax.
    A Where that zeroes rows which may attend to nothing goes with it: such rows are padding.
    Where a query may see nothing, a mask of the lowest float is kept from being taken for "never".
    Of a graph of unknown meaning it assumes that no batch and no length is zero, which the operator refuses.
    Refuses: a softmax over another axis; weights or scores used elsewhere; batches or heads that are not
    known to agree; a mask of unknown shape, or made from the keys that the cache would take in; scores that
    nothing but a Where hides, which hides what is no number as well; batches and lengths that values decide.
    """

    name: ClassVar[str] = "raise-attention"
    level: ClassVar[Level] = Level.RAISE
    contract: ClassVar[Contract] = Contract.reassociates()
    opsets: ClassVar[OpsetRange] = OpsetRange(23, None)
    main_graph_only: ClassVar[bool] = True

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        ancestors = Ancestors()
        told: set[ir.Node] = set()
        for node in graph:
            if node.domain != "" or node.op_type not in ("Attention", "MatMul"):
                continue
            found = _operator(node) if node.op_type == "Attention" else _decomposed(node, context)
            if found is None:
                continue
            told.add(node)
            if node.outputs[0].dtype == ir.DataType.DOUBLE:
                found = "it is computed in float64, and the operator's scale is float32"
            edit = found if isinstance(found, str) else _raised(found, ancestors, context)
            if edit is not None:
                yield NearMiss(node.name or node.op_type, edit) if isinstance(edit, str) else edit
        yield from _TRAIL.near_misses(graph, told)


def _is_anchor(node: ir.Node) -> bool:
    """A Softmax before or behind a product of two computed values, and not one that only chooses."""
    if node.op_type != "Softmax":
        return False
    return leads_to_product(node.inputs[0], computed=True) or any(
        user.op_type == "MatMul" and user.domain == "" and is_computed(user)
        for user, _ in node.outputs[0].uses()
    )


_TRAIL = Trail(
    _is_anchor,
    (("MatMul",),),
    "the weights are not the left factor, or a Where does more to them than to make NaN zero",
    over=("IsNaN", "Where"),
)


@dataclass
class _Attention:
    """What `node` computes; K and V are whole, with their cache and repeated. `make` holds new nodes."""

    node: ir.Node
    q: ir.Value
    k: ir.Value
    v: ir.Value
    mask: ir.Value | None
    attributes: dict[str, Any]
    make: Nodes
    sink: ir.Value | None = None

    @property
    def is_operator(self) -> bool:
        return self.node.op_type == "Attention"


def _operator(node: ir.Node) -> _Attention | str | None:
    """An Attention without a cache, with its heads split, of which only the result is used."""
    if len(node.inputs) > 4 or any(o.uses() or o.is_graph_output() for o in node.outputs[1:]):
        return None
    q, k, v, mask = (*node.inputs, None)[:4]
    if q is None or k is None or v is None:
        return None
    if len(q.shape or ()) != 4:
        return "its heads are not split: queries are not [batch, heads, positions, size]"
    make = Nodes(f"{node.name}/attention")
    factor, unscaled_q = queries_before_scaling(q, make)
    attributes = dict(node.attributes)
    size = static_dim(q, 3)
    if unscaled_q is q or size is None:
        return _Attention(node, q, k, v, mask, attributes, Nodes(make.base))
    scale = {"scale": factor * node.attributes.get_float("scale", size**-0.5)}
    return _Attention(node, unscaled_q, k, v, mask, attributes | scale, make)


def _decomposed(node: ir.Node, context: Context) -> _Attention | str | None:
    """MatMul(softmax(scores), V)."""
    weights, v = node.inputs
    sunk = Sunk.of(node)
    if isinstance(sunk, str):
        return sunk
    softmax = sunk.softmax if sunk is not None else _softmax(weights)
    if softmax is None or softmax.inputs[0] is None or v is None:
        return None
    if sunk is None and not _is_anchor(softmax):
        return None
    if len(node.outputs[0].shape or ()) != 4:
        return "the result is not known to be [batch, heads, positions, size]"
    if softmax.attributes.get_int("axis", -1) not in (-1, 3):
        return "the softmax is not over the keys"
    if weights is None or only_user(weights) is None:
        return "the attention weights are used elsewhere"
    scores = read_scores(*(before_max_subtraction(softmax) if sunk is None else (sunk.scores, sunk.users)))
    if scores is None or isinstance(scores, str):
        return scores
    if sunk is not None and scores.softcap:
        return "it has an attention sink and caps scores"
    added = [mask.value for mask in scores.masks if mask.kind == "add"]
    if len(added) < len(scores.masks) and not any(forbids(value, context) for value in added):
        return "its scores are masked by a Where alone, which hides NaN too, as an added mask does not"
    make = Nodes(f"{node.name}/attention")
    for_k, k = unscaled(keys_before_transpose(scores.transposed_k, make))
    combined = combined_mask(scores.masks, scores.q, make, context)
    mask = fitted(combined, scores.q, k, make) if combined is not None else None
    if isinstance(mask, str):
        return mask
    attributes: dict[str, Any] = {"scale": scores.scale * for_k}
    if scores.softcap:
        attributes["softcap"] = scores.softcap
    end, sink = (node, None) if sunk is None else (sunk.end, sunk.sink)
    return _Attention(end, scores.q, k, v, mask, attributes, make, sink)


def _softmax(weights: ir.Value | None) -> ir.Node | None:
    """The Softmax of `weights`, behind a Where perhaps that makes rows of NaN zero."""
    where = producer(weights, "Where")
    if where is not None and scalar_operand(where.inputs[1], where.inputs[2]) == 0.0:
        isnan = producer(where.inputs[0], "IsNaN")
        inner = where.inputs[2]
        if isnan is None or inner is None or isnan.inputs[0] is not inner or len(inner.uses()) != 2:
            return None
        return producer(inner, "Softmax")
    return producer(weights, "Softmax")


def _raised(found: _Attention, ancestors: Ancestors, context: Context) -> Edit | str | None:
    key, value = _Keys.of(found.k), _Keys.of(found.v)
    if key.times != value.times:
        key, value = _Keys(found.k), _Keys(found.v)
    reason = _disagreement(found, key, value)
    if reason is not None:
        return reason
    concats = [c for c in (key.concat(), value.concat()) if c is not None]
    cached = len(concats) == 2
    if cached and (causal := found.attributes.get("is_causal")) is not None and causal.as_int():
        return "is_causal aligns queries with other keys where there is a cache"
    if cached and found.mask is not None and not ancestors.of(found.mask).isdisjoint(concats):
        return "the mask depends on keys or values that would move into the cache"
    guard = _guard(found, context)
    whole = not cached and key.times == 1 and guard is None
    if found.is_operator and whole and found.q is found.node.inputs[0]:
        return None
    end = guard or found.node
    inputs: list[ir.Value | None] = [found.q, key.value, value.value, found.mask]
    like: list[ir.Value | None] = [end.outputs[0]]
    removed = [end]
    if cached:
        inputs[1:3] = (concat.inputs[1] for concat in concats)
        inputs += [concat.inputs[0] for concat in concats]
        like += [concat.outputs[0] for concat in concats]
        removed += concats
    while inputs[-1] is None:
        inputs.pop()
    sizes = [(found.q, 0), (found.q, 2), *((v, 2) for v in inputs[1:2] if v is not None)]
    assumed = [] if found.is_operator else assume_not_empty(sizes, "attention", context)
    if isinstance(assumed, str):
        return assumed
    made = _made(found, inputs, like)
    used = {v for node in found.make.nodes for v in node.inputs if v is not None}
    return Edit(
        "Attention",
        remove=orphans(removed, used),
        insert=found.make.nodes,
        initializers=found.make.initializers,
        replace={old: new for old, new in zip(like, made, strict=True) if old is not None},
        before=end,
        assumes=assumed,
    )


def _made(found: _Attention, inputs: list[ir.Value | None], like: list[ir.Value | None]) -> list[ir.Value]:
    """The operator's results, like the values given."""
    if found.sink is None:
        return found.make.many("Attention", inputs, "attention", like, **found.attributes)
    y = like[0]
    assert y is not None
    scores = ir.Value(type=ir.TensorType(y.dtype or ir.DataType.FLOAT))
    outputs = [*like, *[None] * (3 - len(like)), scores]
    attributes = found.attributes | {"qk_matmul_output_mode": MASKED}
    made = found.make.many("Attention", inputs, "attention", outputs, **attributes)
    return [with_factor(made, found.sink, y, found.make), *made[1 : len(like)]]


@dataclass(frozen=True)
class _Keys:
    """Keys or values before each head was repeated `times` times for the queries of its group."""

    value: ir.Value
    times: int = 1

    @classmethod
    def of(cls, value: ir.Value) -> _Keys:
        """From Reshape(Expand(Unsqueeze(inner, 2))), if that is what `value` is."""
        reshape = producer(value, "Reshape")
        expand = producer(reshape.inputs[0], "Expand") if reshape is not None else None
        unsqueeze = producer(expand.inputs[0], "Unsqueeze") if expand is not None else None
        inner = unsqueeze.inputs[0] if unsqueeze is not None else None
        if unsqueeze is None or expand is None or inner is None or inner.shape is None or value.shape is None:
            return cls(value)
        axes = const_of(unsqueeze.inputs[1])
        repeated = expand.outputs[0].shape
        if axes is None or [int(a) % 5 for a in axes.reshape(-1)] != [2] or len(inner.shape) != 4:
            return cls(value)
        if repeated is None or len(repeated) != 5 or len(value.shape) != 4:
            return cls(value)
        heads, times = inner.shape[1], repeated[2]
        if not isinstance(heads, int) or not isinstance(times, int) or value.shape[1] != heads * times:
            return cls(value)
        same = (
            same_dim(inner.shape[axis], repeated[axis + (axis > 1)])
            and same_dim(inner.shape[axis], value.shape[axis])
            for axis in (0, 2, 3)
        )
        return cls(inner, times) if repeated[1] == heads and all(same) else cls(value)

    def concat(self) -> ir.Node | None:
        """The Concat of a cache and new keys, [batch, heads, positions, size] each."""
        node = producer(self.value, "Concat")
        if node is None or len(node.inputs) != 2 or node.attributes.get_int("axis") not in (-2, 2):
            return None
        return node


def _disagreement(found: _Attention, key: _Keys, value: _Keys) -> str | None:
    """The reason why q, keys and values cannot be the operator's: sizes that do not go together."""
    values = found.q, key.value, value.value
    if any(len(v.shape or ()) != 4 for v in values):
        return "queries, keys and values are not all [batch, heads, positions, size]"
    batches = [v.shape[0] for v in values if v.shape is not None]
    if not found.is_operator and not (same_dim(batches[0], batches[1]) and same_dim(batches[0], batches[2])):
        return "the batches of queries, keys and values are not known to agree"
    queries, keys, others = (static_dim(v, 1) for v in values)
    if queries is None or keys is None or keys != others:
        return "the numbers of heads are not known, or differ between keys and values"
    whole = keys * key.times
    agree = queries % whole == 0 if found.is_operator else whole in (queries, 1)
    return None if agree else f"{queries} heads of queries do not go with {whole} heads of keys"


def _guard(found: _Attention, context: Context) -> ir.Node | None:
    """The Where that zeroes rows without any key, if that is what it does."""
    y = found.node.outputs[0]
    where = only_user(y)
    if where is None or where.op_type != "Where" or where.domain != "" or where.inputs[2] is not y:
        return None
    condition = where.inputs[0]
    mask = found.mask
    if condition is None or mask is None or scalar_operand(where.inputs[1], y) != 0.0:
        return None
    if mask.producer() is not None and mask.producer() in found.make.nodes:
        return None
    return where if masks_whole_rows(condition, mask, context) else None
