"""lower-attention: attention with a cache becomes onnxruntime's GroupQueryAttention."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import onnx_ir as ir

from graphopt.families import Assumption
from graphopt.ir import MICROSOFT, LazyTensor, Reshaped, lazy, orphans, static_dim
from graphopt.pipeline import (
    Context,
    Contract,
    Edit,
    Edits,
    Level,
    NearMiss,
    Nodes,
    OpsetRange,
    Outcome,
    Pass,
    assume_not_empty,
)

from ._gqa import (
    Lengths,
    attention_bias,
    dense_lengths,
    masked_lengths,
    refused_size,
    rotates,
    takes_bias,
    takes_type,
)
from ._heads import packed_source, rows, rows_after, same_rotation
from ._mask_meaning import MaskParts, mask_parts
from ._sinks import Factor

_PADDING = Assumption("padded-rows", "results at positions where attention_mask is 0 are not specified")
_DENSE = Assumption(
    "dense-attention",
    "batches are unpadded or padded on the right, each chunk by itself; others fail, with query_seqlens "
    "= -1 in the message. The cache of a padded row holds its tokens without gaps",
    padding=("none", "right"),
    padded_past=False,
)


class LowerAttention(Pass):
    """Attention with a key and value cache becomes GroupQueryAttention, heads and rotation inside it.

    Before: Attention(q, k, v, mask, past_key, past_value), q, k and v [batch, heads, sequence, size] made by
            Reshape, Transpose and, for q and k, RotaryEmbedding; Transpose and Reshape after it
    After:  GroupQueryAttention(q, k, v, past_key, past_value, ..) on [batch, sequence, heads * size]; q alone
            where one value holds all three; rotation inside; a sliding window as local_window_size
    Padding becomes a bias made once for all layers (`mode = "masked"`: right for padding anywhere), or
    is taken to be on the right (`mode = "dense"`: other batches are refused at run time). What else is added
    to scores, as ALiBi's slopes, is added to that bias, in either mode. A sink goes inside.
    Rotation stays outside where the target's kernel cannot do it: of this size, or of this part of it; q and
    k rotated differently.
    Of a graph of unknown meaning it assumes that padding is not looked at and no batch or length is zero.
    Refuses: no cache; heads of a size, a type or a bias that the target's kernel does not take; keys and
    values of different sizes; a mask that means anything but causal, window and padding, with or without a
    finite bias; is_causal beside a cache; scores that are used.
    """

    name: ClassVar[str] = "lower-attention"
    level: ClassVar[Level] = Level.LOWER
    contract: ClassVar[Contract] = Contract.reassociates()
    opsets: ClassVar[OpsetRange] = OpsetRange(23, None)
    main_graph_only: ClassVar[bool] = True

    @dataclass(frozen=True)
    class Options:
        """mode: masked (any padding) or dense (unpadded or right-padded batches only)."""

        mode: Literal["masked", "dense"] = "masked"

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        shared = _Shared(graph, context, self.options.mode)
        for node in graph:
            if node.op_type != "Attention" or node.domain != "":
                continue
            attention = _Attention.of(node, graph, context)
            if not isinstance(attention, str) and shared.needs_bias(attention) and not takes_bias(context):
                attention = "the kernel of the target adds no bias to scores"
            if isinstance(attention, str):
                yield NearMiss(node.name or "Attention", attention)
                continue
            outcome = yield _lowered(attention, shared)
            if outcome is Outcome.APPLIED:
                shared.keep()


@dataclass(frozen=True)
class _Attention:
    """An Attention that GroupQueryAttention can do."""

    node: ir.Node
    query: ir.Value
    key: ir.Value
    value: ir.Value
    past: tuple[ir.Value, ir.Value]
    heads: int
    key_heads: int
    size: int
    mask: MaskParts
    padding: ir.Value | None  # attention_mask int64[batch, total], where the mask depends on it
    factor: Factor | None  # of a sink
    assumed: list[Assumption]

    @property
    def result(self) -> ir.Value:
        return (self.node if self.factor is None else self.factor.nodes[-1]).outputs[0]

    @property
    def is_padded_alone(self) -> bool:
        """Whether nothing but padding is left to say of its mask."""
        return self.padding is not None and not self.mask.biases

    @classmethod
    def of(cls, node: ir.Node, graph: ir.Graph, context: Context) -> _Attention | str:
        """The parts of `node`, or why it cannot be lowered."""
        query, key, value, mask, past_key, past_value = (*node.inputs, *[None] * 6)[:6]
        if query is None or key is None or value is None or past_key is None or past_value is None:
            return "it has no cache of keys and values"
        heads, key_heads, size = static_dim(query, 1), static_dim(key, 1), static_dim(query, 3)
        if heads is None or key_heads is None or size is None:
            return "the number or the size of its heads is not known"
        if static_dim(value, 3) != size:
            return "its values are not of the size of its keys"
        refused = refused_size(size, context)
        if refused is not None:
            return refused
        if not takes_type(query.dtype, context):
            return f"the kernel does not take {query.dtype}"
        factor = Factor.of(node)
        scores = node.outputs[3:4]
        if factor is None and any(value.uses() or value.is_graph_output() for value in scores):
            return "its scores are used"
        if factor is not None and static_dim(factor.sink, 1) != heads:
            return "it has another number of sinks than of heads"
        if node.attributes.get_int("is_causal", 0):
            return "is_causal beside a cache aligns the first query with the first key"
        if mask is None:
            return "it has no mask: queries see later positions"
        parts = mask_parts(mask, heads, context)
        if parts is None or not parts.meaning.causal:
            return "its mask is not made of causal, sliding-window and padding masks"
        padding = None
        if parts.biases and not parts.meaning.padding:
            return "it adds a bias to scores and has no padding mask"
        if parts.meaning.padding:
            padding = next((v for v in graph.inputs if v.name == "attention_mask"), None)
            if padding is None:
                return "its mask hides padding, and there is no input attention_mask"
        assumed = assume_not_empty([(query, 0), (query, 2)], "its kernel", context)
        if isinstance(assumed, str):
            return assumed
        if context.domain is None and parts.meaning.padding:
            assumed.append(_PADDING)
        past = (past_key, past_value)
        return cls(node, query, key, value, past, heads, key_heads, size, parts, padding, factor, assumed)


class _Shared:
    """Values that all lowered layers use, made with the first that needs them."""

    def __init__(self, graph: ir.Graph, context: Context, mode: str) -> None:
        self.context = context
        self._dense = mode == "dense"
        self._graph = graph
        self._kept: dict[Hashable, Any] = {}
        self._fresh: dict[Hashable, Any] = {}

    def is_dense(self, attention: _Attention) -> bool:
        """Whether its padding is taken to be on the right."""
        return self._dense and attention.is_padded_alone

    def needs_bias(self, attention: _Attention) -> bool:
        """Whether anything is added to its scores: padding, or what is there already."""
        return attention.padding is not None and not self.is_dense(attention)

    def lengths(self, attention: _Attention, make: Nodes) -> tuple[Lengths, ir.Value | None]:
        """Lengths, and in masked mode with padding the bias."""
        padding = attention.padding
        biases = attention.mask.biases
        key = ("lengths", padding, None if padding is not None else attention.past[0], biases)
        if key not in self._kept:
            self._fresh[key] = self._make(attention, make)
        made: tuple[Lengths, ir.Value | None] = self._kept.get(key) or self._fresh[key]
        return made

    def _make(self, attention: _Attention, make: Nodes) -> tuple[Lengths, ir.Value | None]:
        padding, past = attention.padding, attention.past[0]
        tokens = self._tokens(attention)
        if padding is None:
            return masked_lengths(tokens, None, past, make)[0], None
        if self.is_dense(attention):
            return dense_lengths(tokens, padding, past, make), None
        lengths, sequence = masked_lengths(tokens, padding, past, make)
        assert attention.query.dtype is not None
        bias = attention_bias(padding, sequence, attention.query.dtype, make)
        for index, other in enumerate(attention.mask.biases):
            shape = [padding.shape[0] if padding.shape else None, attention.heads, None, None]
            bias = make.op("Add", [bias, other], f"biased{index}", dtype=bias.dtype, shape=shape)
        return lengths, bias

    def _tokens(self, attention: _Attention) -> ir.Value:
        """A graph input [batch, sequence, ...], so that lengths wait for nothing; else queries."""
        shape = attention.query.shape
        for value in self._graph.inputs:
            if shape is None or value.shape is None or len(value.shape) < 2 or value is attention.padding:
                continue
            wanted, found = (shape[0], shape[2]), (value.shape[0], value.shape[1])
            if found == wanted and all(isinstance(d, int) or d.value is not None for d in found):
                return value
        return next(v for v in attention.node.inputs if v is not None)

    def keep(self) -> None:
        """What the last edit made is in the graph now."""
        self._kept |= self._fresh
        self._fresh = {}


def _lowered(attention: _Attention, shared: _Shared) -> Edit:
    node = attention.node
    make = Nodes(node.name or "attention")
    lengths, bias = shared.lengths(attention, make)
    attributes = _attributes(attention)
    query, key, rotation = _unrotated(attention, shared.context)
    if rotation is not None:
        attributes |= {"do_rotary": 1, "rotary_interleaved": rotation.attributes.get_int("interleaved", 0)}
    counts = (attention.heads, attention.key_heads, attention.key_heads)
    parts: list[ir.Value | None] = [
        rows(x, n, make, label)
        for x, n, label in zip((query, key, attention.value), counts, "qkv", strict=True)
    ]
    packed = packed_source([p for p in parts if p is not None], [n * attention.size for n in counts])
    if packed is not None:
        parts = [packed, None, None]
    tables = [None, None, None] if rotation is None else list(rotation.inputs[1:4])
    inputs = [
        *parts,
        *attention.past,
        lengths.seqlens_k,
        lengths.total,
        *tables,
        bias,
        _sink(attention, make),
        *[None] * 4,
        lengths.queries,
    ]
    result = attention.result
    after = rows_after(result)
    like = [after.outputs[0] if after is not None else None, *node.outputs[1:3]]
    outputs = make.many(
        "GroupQueryAttention",
        inputs,
        "gqa",
        [result if like[0] is None else like[0], *like[1:]],
        domain=MICROSOFT,
        **attributes,
    )
    replace = dict(zip(node.outputs[1:3], outputs[1:], strict=True))
    removed = [node, *(attention.factor.nodes if attention.factor is not None else ())]
    if after is not None:
        transpose = after.inputs[0].producer() if after.inputs[0] is not None else None
        removed += [n for n in (transpose, after) if n is not None]
        replace[after.outputs[0]] = outputs[0]
    else:
        replace[result] = _heads_of(outputs[0], attention, make)
    used = {value for new in make.nodes for value in new.inputs if value is not None}
    return Edit(
        f"GroupQueryAttention, {'packed' if packed is not None else 'separate'} q, k and v, "
        f"rotation {'inside' if rotation is not None else 'outside or none'}",
        remove=orphans(removed, used),
        insert=make.nodes,
        initializers=make.initializers,
        replace=replace,
        before=node,
        assumes=[*attention.assumed, *([_DENSE] if shared.is_dense(attention) else [])],
    )


def _sink(attention: _Attention, make: Nodes) -> ir.Value | None:
    """[heads]"""
    if attention.factor is None:
        return None
    sink = attention.factor.sink
    assert sink.const_value is not None
    return make.weight(LazyTensor(Reshaped(lazy(sink.const_value), (attention.heads,))), f"{sink.name}/heads")


def _attributes(attention: _Attention) -> dict[str, Any]:
    given = attention.node.attributes
    attributes: dict[str, Any] = {"num_heads": attention.heads, "kv_num_heads": attention.key_heads}
    if (scale := given.get_float("scale", None)) is not None:
        attributes["scale"] = scale
    if softcap := given.get_float("softcap", 0.0):
        attributes["softcap"] = softcap
    if attention.mask.meaning.window is not None:
        attributes["local_window_size"] = attention.mask.meaning.window
    return attributes


def _unrotated(attention: _Attention, context: Context) -> tuple[ir.Value, ir.Value, ir.Node | None]:
    """Query and key before their rotation, and it, where the kernel can do it; else as they are."""
    pair = same_rotation(attention.query, attention.key)
    if pair is None or len(pair[0].inputs) < 4 or pair[0].inputs[3] is None:
        return attention.query, attention.key, None
    half = static_dim(pair[0].inputs[1], 1)
    query, key = pair[0].inputs[0], pair[1].inputs[0]
    if half is None or query is None or key is None or not rotates(attention.size, 2 * half, context):
        return attention.query, attention.key, None
    return query, key, pair[0]


def _heads_of(value: ir.Value, attention: _Attention, make: Nodes) -> ir.Value:
    """`value` [batch, sequence, heads * size] as [batch, heads, sequence, size]."""
    y = attention.result
    target = make.constant([0, 0, attention.heads, attention.size], "int64", "heads")
    batch, sequence = (None, None) if y.shape is None else (y.shape[0], y.shape[2])
    value.shape = ir.Shape([batch, sequence, attention.heads * attention.size])
    apart = make.op(
        "Reshape",
        [value, target],
        "apart",
        dtype=y.dtype,
        shape=[batch, sequence, attention.heads, attention.size],
    )
    return make.op("Transpose", [apart], "turned", like=y, perm=[0, 2, 1, 3])
