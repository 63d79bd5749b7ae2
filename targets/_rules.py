"""What kernels demand beyond types: sizes, and inputs they refuse. Each is tried on the smallest graph."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from ._trial import runs

__all__ = ["Demand", "demands", "tried"]

_Case = tuple[onnx.NodeProto, dict[str, np.ndarray]]
_QK_NORM = 14


@dataclass(frozen=True)
class Demand:
    """A rule that has to hold for a node, the values to ask it with, and what is wrong if it does not."""

    rule: str
    values: tuple[int, ...]
    otherwise: str


@functools.cache
def tried(rule: str, values: tuple[int, ...]) -> bool:
    """Whether the smallest graph with these sizes runs. `KeyError` for an unknown rule."""
    return runs(*_RULES[rule](*values))


def demands(node: ir.Node) -> Iterator[Demand]:
    """What `node` asks of its kernel that only trying it tells."""
    asked = _DEMANDS.get(node.op_type) if node.domain == "com.microsoft" else None
    if asked is not None:
        yield from asked(node)


def _of_matmul_nbits(node: ir.Node) -> Iterator[Demand]:
    bits, block = _integer(node, "bits", 4), _integer(node, "block_size", 32)
    yield Demand("matmul-nbits", (bits, block), f"the kernel takes no {bits} bits in blocks of {block}")


def _of_attention(node: ir.Node) -> Iterator[Demand]:
    if any(value is not None for value in node.inputs[_QK_NORM : _QK_NORM + 2]):
        yield Demand("qk-norm", (), "the CPU kernel takes no q_norm_weight and k_norm_weight")
    size = _head_size(node)
    if size is None:
        return
    yield Demand("head-size", (size,), f"the kernel takes no heads of {size}")
    if _integer(node, "do_rotary", 0):
        yield Demand("rotary-head-size", (size,), f"the kernel rotates no heads of {size}")


def _head_size(node: ir.Node) -> int | None:
    """The last dimension of the cache, where it is a number."""
    past = node.inputs[3] if len(node.inputs) > 3 else None
    if past is None or past.shape is None or len(past.shape) != 4 or not isinstance(past.shape[3], int):
        return None
    return past.shape[3]


def _integer(node: ir.Node, name: str, default: int) -> int:
    attribute = node.attributes.get(name)
    return default if attribute is None else attribute.as_int()


def _matmul_nbits(bits: int, block: int) -> _Case:
    blocks, columns = 2, 16
    node = _node(
        "MatMulNBits", ["x", "w", "s"], ["y"],
        K=blocks * block, N=columns, bits=bits, block_size=block, accuracy_level=4,
    )  # fmt: skip
    return node, {
        "x": np.ones((1, blocks * block), np.float32),
        "w": np.zeros((columns, blocks, block * bits // 8), np.uint8),
        "s": np.ones((columns, blocks), np.float32),
    }


def _head_size_case(size: int, *, rotary: bool = False, norm: bool = False) -> _Case:
    feeds = {
        "q": np.ones((1, 2, 3 * size), np.float32),
        "past_key": np.ones((1, 1, 0, size), np.float32),
        "past_value": np.ones((1, 1, 0, size), np.float32),
        "seqlens": np.asarray([1], np.int32),
        "total": np.asarray(2, np.int32),
    }
    names = ["q", "", "", "past_key", "past_value", "seqlens", "total", "", ""]
    if rotary:
        names[7:] = ["cos", "sin"]
        feeds |= dict.fromkeys(("cos", "sin"), np.ones((4, size // 2), np.float32))
    if norm:
        names += [""] * (_QK_NORM - len(names)) + ["q_norm", "k_norm"]
        feeds |= dict.fromkeys(("q_norm", "k_norm"), np.ones(size, np.float32))
    heads = {"num_heads": 1, "kv_num_heads": 1, "do_rotary": int(rotary)}
    return _node("GroupQueryAttention", names, ["y", "k", "v"], **heads), feeds


def _node(op_type: str, inputs: list[str], outputs: list[str], **attributes: Any) -> onnx.NodeProto:
    return onnx.helper.make_node(op_type, inputs, outputs, domain="com.microsoft", **attributes)


_RULES: dict[str, Callable[..., _Case]] = {
    "head-size": _head_size_case,
    "rotary-head-size": functools.partial(_head_size_case, rotary=True),
    "qk-norm": functools.partial(_head_size_case, 16, norm=True),
    "matmul-nbits": _matmul_nbits,
}
_DEMANDS: dict[str, Callable[[ir.Node], Iterator[Demand]]] = {
    "GroupQueryAttention": _of_attention,
    "MatMulNBits": _of_matmul_nbits,
}
