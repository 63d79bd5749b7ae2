"""Attention inputs as rows: from [batch, heads, sequence, size] back to [batch, sequence, heads * size]."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx_ir as ir

from graphopt.ir import const_of, consumers, producer, same_dim, static_dim
from graphopt.pipeline import Nodes

__all__ = ["packed_source", "rows", "rows_after", "same_rotation", "swaps_heads"]


def rows(value: ir.Value, heads: int, make: Nodes, label: str) -> ir.Value:
    """`value` [batch, heads, sequence, size] as [batch, sequence, heads * size].

    That is a value from before the heads were split, where the graph has it; a norm over each head and a
    rotation are moved in front of the Transpose, which then is not needed; else the axes are exchanged back.
    """
    node = value.producer()
    if swaps_heads(node):
        assert node is not None
        assert node.inputs[0] is not None
        return _joined(node.inputs[0], heads, make, label)
    if node is not None and node.domain == "" and _over_a_head(node):
        inner = node.inputs[0].producer() if node.inputs[0] is not None else None
        if swaps_heads(inner):
            assert inner is not None
            assert inner.inputs[0] is not None
            (normed,) = make.copy(node, [inner.inputs[0], *node.inputs[1:]], f"{label}_norm")[:1]
            normed.shape = inner.inputs[0].shape
            return _joined(normed, heads, make, label)
    rotation = producer(value, "RotaryEmbedding")
    if rotation is not None and rotation.inputs[0] is not None:
        flat = rows(rotation.inputs[0], heads, make, f"{label}_unrotated")
        attributes: dict[str, Any] = {**rotation.attributes, "num_heads": heads}
        return make.op(
            "RotaryEmbedding", [flat, *rotation.inputs[1:]], f"{label}_rotated", like=flat, **attributes
        )
    turned = make.op("Transpose", [value], f"{label}_turned", dtype=value.dtype, perm=[0, 2, 1, 3])
    if value.shape is not None:
        turned.shape = ir.Shape([value.shape[i] for i in (0, 2, 1, 3)])
    return _joined(turned, heads, make, label)


def _over_a_head(node: ir.Node) -> bool:
    norm = node.op_type in ("RMSNormalization", "LayerNormalization")
    return norm and len(node.outputs) == 1 and node.attributes.get_int("axis", -1) in (-1, 3)


def _joined(value: ir.Value, heads: int, make: Nodes, label: str) -> ir.Value:
    """`value` [batch, sequence, heads, size] with its last axes merged."""
    reshape = producer(value, "Reshape")
    if reshape is not None and reshape.inputs[0] is not None and _splits_heads(reshape, value, heads):
        return reshape.inputs[0]
    size = static_dim(value, -1)
    width = None if size is None else heads * size
    target = make.constant([0, 0, -1 if width is None else width], "int64", f"{label}_width")
    shape = None if value.shape is None else [value.shape[0], value.shape[1], width]
    return make.op("Reshape", [value, target], f"{label}_rows", dtype=value.dtype, shape=shape)


def _splits_heads(reshape: ir.Node, value: ir.Value, heads: int) -> bool:
    source, target = reshape.inputs[0], const_of(reshape.inputs[1])
    size = static_dim(value, 3)
    if source is None or source.shape is None or len(source.shape) != 3 or size is None:
        return False
    if static_dim(source, 2) != heads * size:
        return False
    if target is not None and list(target[:2]) == [0, 0] and not reshape.attributes.get_int("allowzero", 0):
        return True
    return value.shape is not None and all(same_dim(source.shape[i], value.shape[i]) for i in (0, 1))


def rows_after(y: ir.Value) -> ir.Node | None:
    """The Reshape to [batch, sequence, heads * size] behind the one Transpose that uses `y`."""
    users = consumers(y)
    if y.is_graph_output() or len(users) != 1 or not swaps_heads(users[0]):
        return None
    turned = users[0].outputs[0]
    after = consumers(turned)
    if turned.is_graph_output() or len(after) != 1 or after[0].op_type != "Reshape" or after[0].domain != "":
        return None
    result = after[0].outputs[0]
    heads, size = static_dim(y, 1), static_dim(y, 3)
    if result.shape is None or len(result.shape) != 3 or heads is None or size is None:
        return None
    return after[0] if static_dim(result, 2) == heads * size else None


def same_rotation(query: ir.Value, key: ir.Value) -> tuple[ir.Node, ir.Node] | None:
    """The RotaryEmbeddings of a query and a key, if both have one, of the same tables, positions and kind."""
    nodes = producer(query, "RotaryEmbedding"), producer(key, "RotaryEmbedding")
    if nodes[0] is None or nodes[1] is None or tuple(nodes[0].inputs[1:]) != tuple(nodes[1].inputs[1:]):
        return None
    query_kind, key_kind = (
        [n.attributes.get_int(name, 0) for name in ("interleaved", "rotary_embedding_dim")]
        for n in (nodes[0], nodes[1])
    )
    return (nodes[0], nodes[1]) if query_kind == key_kind else None


def packed_source(parts: Sequence[ir.Value], widths: Sequence[int]) -> ir.Value | None:
    """The value whose last axis `parts`, of these widths, share out in order, if there is one."""
    makers = [part.producer() for part in parts]
    first = makers[0]
    if first is None or first.domain != "" or any(m is None or m.op_type != first.op_type for m in makers):
        return None
    source = first.inputs[0]
    if static_dim(source, -1) != sum(widths):
        return None
    if first.op_type == "Split":
        whole = tuple(first.outputs) == tuple(parts) and first.attributes.get_int("axis", 0) in (-1, 2)
        return (
            source
            if whole and all(static_dim(p, -1) == w for p, w in zip(parts, widths, strict=True))
            else None
        )
    if first.op_type == "Slice":
        start = 0
        for node, width in zip(makers, widths, strict=True):
            assert node is not None
            if node.inputs[0] is not source or not _is_slice(node, start, start + width, sum(widths)):
                return None
            start += width
        return source
    return None


def _is_slice(node: ir.Node, start: int, stop: int, width: int) -> bool:
    """Whether `node` takes start..stop of the last axis, of size `width`, of a value of rank 3."""
    constants = [const_of(v) for v in node.inputs[1:]]
    if len(constants) < 3 or any(c is None or c.size != 1 for c in constants):
        return False
    begin, end, axis, *step = (int(c.reshape(-1)[0]) for c in constants if c is not None)
    end = min(end, width) if end >= 0 else end + width
    return (begin, end, axis % 3, *step) in ((start, stop, 2), (start, stop, 2, 1))


def swaps_heads(node: ir.Node | None) -> bool:
    """Whether `node` exchanges the sequence and the heads of a value of rank 4."""
    return (
        node is not None
        and node.op_type == "Transpose"
        and node.domain == ""
        and list(node.attributes.get_ints("perm") or ()) == [0, 2, 1, 3]
    )
