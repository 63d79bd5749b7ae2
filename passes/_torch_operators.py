"""What operators of canonical decoders compute, in PyTorch, so that errors can be sent back through them.

Each is a function of the node and of its inputs (None where one is left out), and is held to onnxruntime by
tests/passes/test_torch_graph.py. The operators are ONNX's, as of opset 23 (https://onnx.ai/onnx/operators).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["OPERATORS"]

Operator = Callable[..., Any]

_DTYPES: Mapping[ir.DataType, torch.dtype] = {
    ir.DataType.FLOAT: torch.float32,
    ir.DataType.FLOAT16: torch.float16,
    ir.DataType.DOUBLE: torch.float64,
    ir.DataType.INT32: torch.int32,
    ir.DataType.INT64: torch.int64,
    ir.DataType.BOOL: torch.bool,
}


def _elementwise(function: Operator) -> Operator:
    return lambda _, *inputs: function(*inputs)


def _div(_: ir.Node, a: Tensor, b: Tensor) -> Tensor:
    return torch.div(a, b, rounding_mode=None if a.is_floating_point() else "trunc")


def _gelu(node: ir.Node, x: Tensor) -> Tensor:
    return functional.gelu(x, approximate=node.attributes.get_string("approximate", "none"))


def _swish(node: ir.Node, x: Tensor) -> Tensor:
    return x * torch.sigmoid(node.attributes.get_float("alpha", 1.0) * x)


def _clip(_: ir.Node, x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    if low is None and high is None:
        return x
    return torch.clamp(x, low, high)


def _matmul(_: ir.Node, a: Tensor, b: Tensor) -> Tensor:
    return torch.matmul(a, b)


def _gemm(node: ir.Node, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    a = a.T if node.attributes.get_int("transA", 0) else a
    b = b.T if node.attributes.get_int("transB", 0) else b
    product = node.attributes.get_float("alpha", 1.0) * (a @ b)
    return product if c is None else product + node.attributes.get_float("beta", 1.0) * c


def _axes_from(node: ir.Node, x: Tensor) -> tuple[int, ...]:
    return tuple(x.shape[node.attributes.get_int("axis", -1) % x.ndim :])


def _rms_norm(node: ir.Node, x: Tensor, gain: Tensor) -> Tensor:
    axes = _axes_from(node, x)
    return functional.rms_norm(x, axes, None, node.attributes.get_float("epsilon", 1e-5)) * gain


def _layer_norm(node: ir.Node, x: Tensor, gain: Tensor, bias: Tensor | None = None) -> Tensor:
    axes = _axes_from(node, x)
    y = functional.layer_norm(x, axes, eps=node.attributes.get_float("epsilon", 1e-5)) * gain
    return y if bias is None else y + bias


def _softmax(node: ir.Node, x: Tensor) -> Tensor:
    return torch.softmax(x, node.attributes.get_int("axis", -1))


def _reshape(node: ir.Node, x: Tensor, shape: Tensor) -> Tensor:
    sizes = shape.tolist()
    if not node.attributes.get_int("allowzero", 0):
        sizes = [x.shape[i] if size == 0 else size for i, size in enumerate(sizes)]
    return x.reshape(sizes)


def _transpose(node: ir.Node, x: Tensor) -> Tensor:
    return x.permute(list(node.attributes.get_ints("perm") or range(x.ndim)[::-1]))


def _concat(node: ir.Node, *inputs: Tensor) -> Tensor:
    return torch.cat(inputs, node.attributes.get_int("axis"))


def _split(node: ir.Node, x: Tensor, sizes: Tensor | None = None) -> list[Tensor]:
    axis = node.attributes.get_int("axis", 0)
    if sizes is not None:
        return list(torch.split(x, sizes.tolist(), axis))
    return list(torch.split(x, -(-x.shape[axis] // len(node.outputs)), axis))


def _slice(
    _: ir.Node,
    x: Tensor,
    starts: Tensor,
    ends: Tensor,
    axes: Tensor | None = None,
    steps: Tensor | None = None,
) -> Tensor:
    places = range(len(starts)) if axes is None else axes.tolist()
    strides = [1] * len(starts) if steps is None else steps.tolist()
    for axis, start, end, step in zip(places, starts.tolist(), ends.tolist(), strides, strict=True):
        whole = range(x.shape[axis])
        last = end if step > 0 or end >= -len(whole) else None  # counting down, the first one included
        taken = whole[start:last:step]
        if step == 1:
            x = x.narrow(axis, taken.start, len(taken))
        else:
            x = x.index_select(axis, torch.tensor(taken, dtype=torch.int64))
    return x


def _unsqueeze(_: ir.Node, x: Tensor, axes: Tensor) -> Tensor:
    rank = x.ndim + len(axes)
    for axis in sorted(a % rank for a in axes.tolist()):
        x = x.unsqueeze(axis)
    return x


def _squeeze(_: ir.Node, x: Tensor, axes: Tensor | None = None) -> Tensor:
    return x.squeeze() if axes is None else x.squeeze(axes.tolist())


def _expand(_: ir.Node, x: Tensor, shape: Tensor) -> Tensor:
    return x.expand(np.broadcast_shapes(x.shape, shape.tolist()))


def _cast(node: ir.Node, x: Tensor) -> Tensor:
    return x.to(_DTYPES[ir.DataType(node.attributes.get_int("to"))])


def _shape(node: ir.Node, x: Tensor) -> Tensor:
    start, end = node.attributes.get_int("start", 0), node.attributes.get_int("end", x.ndim)
    return torch.tensor(x.shape[start:end], dtype=torch.int64)


def _gather(node: ir.Node, x: Tensor, indices: Tensor) -> Tensor:
    axis = node.attributes.get_int("axis", 0) % x.ndim
    flat = indices.reshape(-1)
    taken = x.index_select(axis, torch.where(flat < 0, flat + x.shape[axis], flat))
    return taken.reshape(*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])


def _reduced(function: Operator) -> Operator:
    def reduce(node: ir.Node, x: Tensor, axes: Tensor | None = None) -> Tensor:
        if axes is None and node.attributes.get_int("noop_with_empty_axes", 0) == 1:
            return x
        along = list(range(x.ndim)) if axes is None else axes.tolist()
        made: Tensor = function(x, along, keepdim=bool(node.attributes.get_int("keepdims", 1)))
        return made

    return reduce


def _apart(x: Tensor, heads: int) -> Tensor:
    """[B, S, heads * D] as [B, heads, S, D]."""
    return x.reshape(*x.shape[:-1], heads, -1).transpose(1, 2)


def _rotary(node: ir.Node, x: Tensor, cos: Tensor, sin: Tensor, positions: Tensor | None = None) -> Tensor:
    heads = node.attributes.get_int("num_heads", 0)
    y = x if x.ndim == 4 else _apart(x, heads)
    if positions is not None:
        cos, sin = cos[positions], sin[positions]
    cos, sin = cos.unsqueeze(1), sin.unsqueeze(1)  # the same for each head
    width = node.attributes.get_int("rotary_embedding_dim", 0) or y.shape[-1]
    turned, rest = y[..., :width], y[..., width:]
    if node.attributes.get_int("interleaved", 0):
        a, b = turned[..., 0::2], turned[..., 1::2]
        turned = torch.stack([a * cos - b * sin, a * sin + b * cos], -1).flatten(-2)
    else:
        a, b = turned.chunk(2, -1)
        turned = torch.cat([a * cos - b * sin, a * sin + b * cos], -1)
    y = torch.cat([turned, rest], -1)
    return y if x.ndim == 4 else y.transpose(1, 2).flatten(2)


def _with(mask: Tensor | None, closed: Tensor | None = None) -> Tensor:
    """What to add to scores under `mask`, and where places are `closed`, too."""
    added = torch.zeros(()) if mask is None else mask
    if added.dtype == torch.bool:
        added = torch.zeros(added.shape).masked_fill(~added, float("-inf"))
    if closed is None:
        return added
    return added.expand(np.broadcast_shapes(added.shape, closed.shape)).masked_fill(closed, float("-inf"))


def _attention(
    node: ir.Node,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None = None,
    past_k: Tensor | None = None,
    past_v: Tensor | None = None,
) -> list[Tensor]:
    flat = q.ndim == 3
    if flat:
        heads, kv = node.attributes.get_int("q_num_heads"), node.attributes.get_int("kv_num_heads")
        q, k, v = (_apart(x, n) for x, n in ((q, heads), (k, kv), (v, kv)))
    past = 0
    if past_k is not None and past_v is not None:
        past = past_k.shape[2]
        k, v = torch.cat([past_k, k], 2), torch.cat([past_v, v], 2)
    present = [k, v]
    group = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
    if node.attributes.get_int("is_causal", 0):
        later = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool).triu(past + 1)
        mask = _with(mask, later)
    scale = node.attributes.get_float("scale", 0.0) or q.shape[-1] ** -0.5
    cap = node.attributes.get_float("softcap", 0.0)
    if cap:
        scores = torch.tanh(q @ k.transpose(-1, -2) * (scale / cap)) * cap
        y = torch.softmax(scores if mask is None else scores + _with(mask), -1) @ v
    else:
        y = functional.scaled_dot_product_attention(q, k, v, mask, scale=scale)
    return [y.transpose(1, 2).flatten(2) if flat else y, *present]


OPERATORS: Mapping[str, Operator] = {
    "Abs": _elementwise(torch.abs),
    "Add": _elementwise(torch.add),
    "And": _elementwise(torch.logical_and),
    "Attention": _attention,
    "Cast": _cast,
    "Clip": _clip,
    "Concat": _concat,
    "Cos": _elementwise(torch.cos),
    "Div": _div,
    "Equal": _elementwise(torch.eq),
    "Erf": _elementwise(torch.erf),
    "Exp": _elementwise(torch.exp),
    "Expand": _expand,
    "Gather": _gather,
    "Gelu": _gelu,
    "Gemm": _gemm,
    "Greater": _elementwise(torch.gt),
    "GreaterOrEqual": _elementwise(torch.ge),
    "Identity": _elementwise(lambda x: x),
    "LayerNormalization": _layer_norm,
    "Less": _elementwise(torch.lt),
    "LessOrEqual": _elementwise(torch.le),
    "MatMul": _matmul,
    "Max": _elementwise(torch.maximum),
    "Min": _elementwise(torch.minimum),
    "Mul": _elementwise(torch.mul),
    "Neg": _elementwise(torch.neg),
    "Not": _elementwise(torch.logical_not),
    "Or": _elementwise(torch.logical_or),
    "Pow": _elementwise(torch.pow),
    "RMSNormalization": _rms_norm,
    "Reciprocal": _elementwise(torch.reciprocal),
    "ReduceMean": _reduced(torch.mean),
    "ReduceSum": _reduced(torch.sum),
    "Relu": _elementwise(torch.relu),
    "Reshape": _reshape,
    "RotaryEmbedding": _rotary,
    "Shape": _shape,
    "Sigmoid": _elementwise(torch.sigmoid),
    "SimplifiedLayerNormalization": _rms_norm,
    "Sin": _elementwise(torch.sin),
    "Slice": _slice,
    "Softmax": _softmax,
    "Softplus": _elementwise(functional.softplus),
    "Split": _split,
    "Sqrt": _elementwise(torch.sqrt),
    "Squeeze": _squeeze,
    "Sub": _elementwise(torch.sub),
    "Swish": _swish,
    "Tanh": _elementwise(torch.tanh),
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
    "Where": _elementwise(torch.where),
}
"""By ONNX's name."""
