"""GroupQueryAttention with a cache of integers, and how it runs beside the float form."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from graphopt.ir import MICROSOFT, static_dim
from graphopt.pipeline import Bridge, Edit, Nodes

from ._adapters import QuantizedCache

__all__ = ["SCALES", "in_integers", "rotated_pairs"]

SCALES = slice(12, 14)  # GroupQueryAttention's inputs k_scale and v_scale
_INPUTS = 17  # all that it has with query_seqlens, the last


def rotated_pairs(node: ir.Node) -> tuple[slice, slice]:
    """Which channels of a key `node` rotates into which others."""
    half = static_dim(node.inputs[7], 1) if node.attributes.get_int("do_rotary", 0) else None
    if half is None:
        return slice(0), slice(0)
    if node.attributes.get_int("rotary_interleaved", 0):
        return slice(0, 2 * half, 2), slice(1, 2 * half, 2)
    return slice(half), slice(half, 2 * half)


def in_integers(node: ir.Node, limits: Sequence[Sequence[float]], bits: int) -> Edit:
    """`node` with a cache of `bits`; `limits` are where each channel of keys and of values is clipped."""
    make = Nodes(node.name or "attention")
    inputs: list[ir.Value | None] = [*node.inputs, *[None] * (_INPUTS - len(node.inputs))]
    pasts, presents = [v for v in node.inputs[3:5] if v is not None], node.outputs[1:3]
    heads = static_dim(pasts[0], 1)
    assert heads is not None
    scales = np.stack([_scales(one, bits) for one in limits]).reshape(2, heads, -1)
    taken = [_held(past, bits) for past in pasts]
    inputs[3:5] = taken
    inputs[SCALES] = [
        make.constant(scale[None, :, None, :], np.float32, f"{kind}_scale")
        for kind, scale in zip("kv", scales, strict=True)
    ]
    results = make.many(
        node.op_type,
        inputs,
        f"int{bits}",
        [node.outputs[0], *(_held(present, bits) for present in presents)],
        domain=MICROSOFT,
        **dict(node.attributes),
        k_quant_type="PER_CHANNEL",
        v_quant_type="PER_CHANNEL",
        kv_cache_bit_width=bits,
    )
    return Edit(
        f"cache in int{bits}",
        remove=[node],
        insert=make.nodes,
        initializers=make.initializers,
        replace=dict(zip(node.outputs, results, strict=True)),
        add_inputs=taken,
        drop_inputs=pasts,
        adapter=QuantizedCache(
            tuple(v.name or "" for v in pasts),
            tuple(v.name or "" for v in presents),
            heads,
            tuple(map(float, scales.ravel())),
            bits,
        ),
        bridge=lambda: _in_float(node, results, taken, scales, bits),
    )


def _in_float(
    node: ir.Node,
    results: Sequence[ir.Value],
    taken: Sequence[ir.Value],
    scales: NDArray[np.float32],
    bits: int,
) -> Bridge:
    """The form in integers from float caches to float caches, on values that its scales are made for."""
    make = Nodes(f"{node.name or 'attention'}/check")
    pasts = [past for past in node.inputs[3:5] if past is not None]
    most = 2 ** (bits - 1) - 1
    feeds, dequantized = {}, {}
    for past, present, inner, outer, scale in zip(
        pasts, node.outputs[1:3], taken, results[1:3], scales, strict=True
    ):
        by = make.constant(scale[:, None, :], np.float32, "scale")
        levels = make.op("Round", [make.op("Div", [past, by], "levels", like=past)], "rounded", like=past)
        lowest, highest = (make.constant(x, np.float32, "limit") for x in (-most - 1, most))
        kept = make.op("Clip", [levels, lowest, highest], "kept", like=past)
        packed = kept if bits == 8 else _packed(make, kept, past)
        feeds[inner] = make.op("Cast", [packed], "integers", like=inner, to=inner.dtype)
        numbers = make.op("Cast", [outer], "numbers", like=present, to=ir.DataType.FLOAT)
        whole = numbers if bits == 8 else _unpacked(make, numbers, present)
        dequantized[present] = make.op("Mul", [whole, by], "present", like=present)
    return Bridge(make.nodes, feeds, dequantized, dict(_within(node, pasts, scales * np.float32(most))))


def _packed(make: Nodes, levels: ir.Value, like: ir.Value) -> ir.Value:
    """Of levels from -8 to 7 two in a byte, as floats: the first counts once, the second sixteen times."""
    pairs = make.constant([0, 0, 0, _size(like) // 2, 2], np.int64, "pairs")
    eight = make.constant(8, np.float32, "eight")
    split = make.op(
        "Reshape", [make.op("Add", [levels, eight], "nibbles", like=like), pairs], "split", like=like
    )
    weighed = make.op("Mul", [split, make.constant([1, 16], np.float32, "weights")], "weighed", like=like)
    last = make.constant([-1], np.int64, "last")
    return make.op("ReduceSum", [weighed, last], "packed", like=like, keepdims=0)


def _unpacked(make: Nodes, numbers: ir.Value, like: ir.Value) -> ir.Value:
    """The levels from -8 to 7 that `_packed` made them of."""
    last = make.constant([-1], np.int64, "last")
    sixteen = make.constant(16, np.float32, "sixteen")
    high = make.op("Floor", [make.op("Div", [numbers, sixteen], "parts", like=like)], "high", like=like)
    low = make.op("Sub", [numbers, make.op("Mul", [high, sixteen], "above", like=like)], "low", like=like)
    halves = [make.op("Unsqueeze", [x, last], "half", like=like) for x in (low, high)]
    both = make.op("Concat", halves, "both", like=like, axis=-1)
    joined = make.op(
        "Reshape", [both, make.constant([0, 0, 0, _size(like)], np.int64, "row")], "joined", like=like
    )
    return make.op("Sub", [joined, make.constant(8, np.float32, "eight")], "levels", like=like)


def _within(
    node: ir.Node, pasts: Sequence[ir.Value], most: NDArray[np.float32]
) -> Iterator[tuple[ir.Value, NDArray[np.float32]]]:
    """The values that `node` takes, with how large they may be for caches of at most `most` to hold them."""
    yield from zip(pasts, most[:, :, None, :], strict=True)
    keys, values = most.copy()
    for channels in rotated_pairs(node):  # at 45 degrees a pair is as long as both together
        keys[:, channels] /= np.float32(np.sqrt(2))
    query, key, value = node.inputs[:3]
    if key is not None and value is not None:
        yield key, keys.ravel()
        yield value, values.ravel()
    elif query is not None:
        heads = node.attributes.get_int("num_heads", 0)
        free = np.full(heads * keys.shape[1], np.inf, np.float32)
        yield query, np.concatenate([free, keys.ravel(), values.ravel()])


def _scales(limits: Sequence[float], bits: int) -> NDArray[np.float32]:
    """The scale of each channel; a channel that was always zero gets one, so that it stays zero."""
    scales = np.asarray(limits, np.float32) / np.float32(2 ** (bits - 1) - 1)
    return np.where(scales > 0, scales, np.float32(1))


def _held(value: ir.Value, bits: int) -> ir.Value:
    """What stands for a float cache: int8, or uint8 of half the size."""
    if bits == 8:
        return ir.Value(name=value.name, shape=value.shape, type=ir.TensorType(ir.DataType.INT8))
    assert value.shape is not None
    shape = ir.Shape([*value.shape[:3], _size(value) // 2])
    return ir.Value(name=value.name, shape=shape, type=ir.TensorType(ir.DataType.UINT8))


def _size(cache: ir.Value) -> int:
    size = static_dim(cache, 3)
    assert size is not None
    return size
