"""What kernels demand beyond types: sizes, and inputs they refuse. Each is tried on the smallest graph."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from graphopt.targets import Remark, node_runs

__all__ = ["Demand", "demands", "remark", "tried"]

_Case = tuple[onnx.NodeProto, dict[str, np.ndarray]]
_COSINES, _QK_NORM = 7, 14  # inputs of GroupQueryAttention, by its operator spec
_ZEROS, _G_IDX = 3, 4  # inputs of MatMulNBits
_LARGEST = 1 << 16  # of a size that is tried: no model has such heads, and arrays of it take memory
_FASTEST = 4  # the accuracy_level that computes in int8
_IN_FLOAT = ((2, 16), (2, 256))  # bits and blocks that have no kernel in int8 (onnxruntime 1.32)


@dataclass(frozen=True)
class Demand:
    """A rule that has to hold for a node, the values to ask it with, and what is wrong if it does not."""

    rule: str
    values: tuple[int, ...]
    otherwise: str


@functools.cache
def tried(rule: str, values: tuple[int, ...]) -> bool:
    """Whether the smallest graph with these sizes runs. `KeyError` for an unknown rule."""
    case = _RULES[rule]
    return all(value <= _LARGEST for value in values) and node_runs(*case(*values))


def remark(node: ir.Node) -> Remark | None:
    """What is to be known of a node that runs: that its kernel is slow, or does something else."""
    if (node.domain, node.op_type) != ("com.microsoft", "MatMulNBits"):
        return None
    found = _of_inputs(node) or _of_form(node)
    return None if found is None else Remark(found[0], node.name or node.outputs[0].name or "?", found[1])


def _of_inputs(node: ir.Node) -> tuple[str, str] | None:
    zeros, g_idx = _input(node, _ZEROS), _input(node, _G_IDX)
    is_float = zeros is not None and _is_float(zeros)
    if g_idx is not None and zeros is not None and not is_float:
        said = "MatMulNBits with g_idx and packed zero points is wrong: onnxruntime ignores the zero points"
        return "ignored-zeros", said
    if g_idx is None and not is_float:
        return None
    kind, what = ("ordered", "g_idx") if g_idx is not None else ("float-zeros", "zero points in floats")
    return kind, f"MatMulNBits with {what} takes tens to hundreds of times as long for one row as without"


def _of_form(node: ir.Node) -> tuple[str, str] | None:
    bits, level = _integer(node, "bits", 4), _integer(node, "accuracy_level", 0)
    block = _integer(node, "block_size", 32)
    if (bits, block) in _IN_FLOAT and level == _FASTEST:
        return "block", (
            f"MatMulNBits with {bits} bits in blocks of {block} takes over a hundred times as long for one "
            "row as in blocks of 128 where onnxruntime's kernel runs it: it computes in float32"
        )
    if level >= _FASTEST:
        return None
    longer = "about three times" if bits == 4 else "over a hundred times"
    return "accuracy-level", (
        f"MatMulNBits with {bits} bits at accuracy level {level} takes {longer} as long for one row as at "
        f"level {_FASTEST}, which computes in int8"
    )


def demands(node: ir.Node) -> Iterator[Demand]:
    """What `node` asks of its kernel that only trying it tells."""
    asked = _DEMANDS.get(node.op_type) if node.domain == "com.microsoft" else None
    if asked is not None:
        yield from asked(node)


def _of_matmul_nbits(node: ir.Node) -> Iterator[Demand]:
    bits, block = _integer(node, "bits", 4), _integer(node, "block_size", 32)
    yield Demand("matmul-nbits", (bits, block), f"the kernel takes no {bits} bits in blocks of {block}")
    zeros = _input(node, _ZEROS)
    if zeros is not None and _is_float(zeros):
        reason = f"the kernel takes no zero points in floats with {bits} bits, only uint8"
        yield Demand("matmul-nbits-float-zeros", (bits,), reason)
    if _input(node, _G_IDX) is not None:
        yield Demand("matmul-nbits-g-idx", (bits,), f"the kernel takes no g_idx with {bits} bits")


def _of_attention(node: ir.Node) -> Iterator[Demand]:
    if any(value is not None for value in node.inputs[_QK_NORM : _QK_NORM + 2]):
        yield Demand("qk-norm", (), "the CPU kernel takes no q_norm_weight and k_norm_weight")
    size = _head_size(node)
    if size is None:
        return
    yield Demand("head-size", (size,), f"the kernel takes no heads of {size}")
    if _integer(node, "do_rotary", 0):
        rotated = _rotated(node, size)
        part = "" if rotated == size else f", of which {rotated} are rotated"
        yield Demand("rotary-head-size", (size, rotated), f"the kernel rotates no heads of {size}{part}")


def _input(node: ir.Node, index: int) -> ir.Value | None:
    return node.inputs[index] if index < len(node.inputs) else None


def _is_float(value: ir.Value) -> bool:
    return value.dtype is not None and value.dtype.is_floating_point()


def _head_size(node: ir.Node) -> int | None:
    """The last dimension of the cache, where it is a number."""
    past = node.inputs[3] if len(node.inputs) > 3 else None
    if past is None or past.shape is None or len(past.shape) != 4 or not isinstance(past.shape[3], int):
        return None
    return past.shape[3]


def _rotated(node: ir.Node, size: int) -> int:
    """How many elements of a head are rotated: twice the width of the cosines; all where it is unknown."""
    cosines = _input(node, _COSINES)
    if cosines is None or cosines.shape is None or len(cosines.shape) != 2:
        return size
    width = cosines.shape[1]
    return 2 * width if isinstance(width, int) and 0 < 2 * width <= size else size


def _integer(node: ir.Node, name: str, default: int) -> int:
    attribute = node.attributes.get(name)
    return default if attribute is None else attribute.as_int()


def _matmul_nbits(bits: int, block: int = 32, *, floats: bool = False, g_idx: bool = False) -> _Case:
    blocks, columns = 2, 16
    feeds: dict[str, np.ndarray] = {
        "x": np.ones((1, blocks * block), np.float32),
        "w": np.zeros((columns, blocks, block * bits // 8), np.uint8),
        "s": np.ones((columns, blocks), np.float32),
    }
    if floats:
        feeds["z"] = np.zeros((columns, blocks), np.float32)
    if g_idx:
        feeds["g"] = np.repeat(np.arange(blocks, dtype=np.int32), block)
    names = [*list(feeds)[:_ZEROS], *[""] * (g_idx and not floats), *list(feeds)[_ZEROS:]]
    node = _node(
        "MatMulNBits", names, ["y"],
        K=blocks * block, N=columns, bits=bits, block_size=block, accuracy_level=_FASTEST,
    )  # fmt: skip
    return node, feeds


def _head_size_case(size: int, *, rotated: int = 0, norm: bool = False, bias: bool = False) -> _Case:
    feeds = {
        "q": np.ones((1, 2, 3 * size), np.float32),
        "past_key": np.ones((1, 1, 0, size), np.float32),
        "past_value": np.ones((1, 1, 0, size), np.float32),
        "seqlens": np.asarray([1], np.int32),
        "total": np.asarray(2, np.int32),
    }
    names = ["q", "", "", "past_key", "past_value", "seqlens", "total", "", ""]
    if rotated:
        names[_COSINES:] = ["cos", "sin"]
        feeds |= dict.fromkeys(("cos", "sin"), np.ones((4, rotated // 2), np.float32))
    if bias:
        names += ["", "bias"]
        feeds["bias"] = np.zeros((1, 1, 2, 2), np.float32)
    if norm:
        names += [""] * (_QK_NORM - len(names)) + ["q_norm", "k_norm"]
        feeds |= dict.fromkeys(("q_norm", "k_norm"), np.ones(size, np.float32))
    heads = {"num_heads": 1, "kv_num_heads": 1, "do_rotary": int(rotated > 0)}
    return _node("GroupQueryAttention", names, ["y", "k", "v"], **heads), feeds


def _rotary_case(size: int, rotated: int | None = None) -> _Case:
    """Of all elements of a head or, where fewer are rotated, the first of them."""
    return _head_size_case(size, rotated=size if rotated is None else rotated)


def _node(op_type: str, inputs: list[str], outputs: list[str], **attributes: Any) -> onnx.NodeProto:
    return onnx.helper.make_node(op_type, inputs, outputs, domain="com.microsoft", **attributes)


_RULES: dict[str, Callable[..., _Case]] = {
    "head-size": _head_size_case,
    "rotary-head-size": _rotary_case,
    "qk-norm": functools.partial(_head_size_case, 16, norm=True),
    "attention-bias": functools.partial(_head_size_case, 16, bias=True),
    "matmul-nbits": _matmul_nbits,
    "matmul-nbits-float-zeros": functools.partial(_matmul_nbits, floats=True),
    "matmul-nbits-g-idx": functools.partial(_matmul_nbits, g_idx=True),
}
_DEMANDS: dict[str, Callable[[ir.Node], Iterator[Demand]]] = {
    "GroupQueryAttention": _of_attention,
    "MatMulNBits": _of_matmul_nbits,
}
