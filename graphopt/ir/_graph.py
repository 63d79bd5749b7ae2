"""Small questions about a graph that passes keep asking."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from graphopt.ir._bytes import Array
from graphopt.ir._tensor import has_data, stored_bytes

__all__ = [
    "const_of",
    "consumers",
    "initializer",
    "is_output",
    "node_name",
    "only_user",
    "producer",
    "same_dim",
    "same_shape",
    "scalar_of",
    "static_dim",
]


_SMALL = 1 << 20
"""Bytes of a constant that is read at once. A judgement: masks and tables of positions are smaller, and
weights stay unread."""


def const_of(value: ir.Value | None) -> Array | None:
    """The array behind a constant of at most 1 MiB: an initializer that is no graph input, or a Constant.

    None for anything else, for weights without data, and for an absent optional input.
    """
    if value is None or value.is_graph_input():
        return None
    tensor, node = value.const_value, value.producer()
    if node is not None and tensor is None:
        if node.op_type != "Constant" or node.domain:
            return None
        attribute = next(iter(node.attributes.values()))
        if attribute.is_ref():
            return None
        match attribute.name:
            case "value":
                tensor = attribute.as_tensor()
            case "value_int" | "value_ints":
                return np.asarray(attribute.value, np.int64)
            case "value_float" | "value_floats":
                return np.asarray(attribute.value, np.float32)
    if tensor is None or not has_data(tensor) or stored_bytes(tensor) > _SMALL:
        return None
    return tensor.numpy()


def scalar_of(value: ir.Value | None) -> float | None:
    """The number behind a constant of one element, whatever its rank; None otherwise."""
    array = const_of(value)
    if array is None or array.size != 1 or array.dtype.kind not in "biufV":
        return None
    return float(array.reshape(-1)[0])


def producer(value: ir.Value | None, op_type: str, domain: str = "") -> ir.Node | None:
    """The node that makes `value`, if it is an `op_type` of `domain`."""
    node = value.producer() if value is not None else None
    return node if node is not None and node.op_type == op_type and node.domain == domain else None


def consumers(value: ir.Value) -> tuple[ir.Node, ...]:
    """The nodes that use `value`, in subgraphs too, each once, in no particular order.

    An output of a graph may have none: see `is_output`.
    """
    return tuple(dict.fromkeys(user for user, _ in value.uses()))


def is_output(value: ir.Value) -> bool:
    """Whether `value` is an output of its graph or subgraph."""
    return value.is_graph_output()


def node_name(node: ir.Node) -> str:
    """What a node is called; where it has no name, what the first value that it makes is."""
    return node.name or next((value.name for value in node.outputs if value.name), "") or ""


def only_user(value: ir.Value) -> ir.Node | None:
    """The node that uses `value`, if it is one node alone and no graph returns the value."""
    users = {user for user, _ in value.uses()}
    return next(iter(users)) if len(users) == 1 and not value.is_graph_output() else None


def static_dim(value: ir.Value | None, axis: int) -> int | None:
    """The size of an axis, negative ones counted from the end; None where it is not a known number."""
    if value is None or value.shape is None or not -len(value.shape) <= axis < len(value.shape):
        return None
    dim = value.shape[axis]
    return dim if isinstance(dim, int) else None


def same_dim(a: int | ir.SymbolicDim, b: int | ir.SymbolicDim) -> bool:
    """Whether two sizes are known to be equal: an unknown one equals nothing."""
    return a == b and not (isinstance(a, ir.SymbolicDim) and a.value is None)


def same_shape(a: ir.Shape | None, b: ir.Shape | None) -> bool:
    """Whether two shapes are known to be equal, axis by axis: see `same_dim`."""
    return a is not None and b is not None and len(a) == len(b) and all(map(same_dim, a, b))


def initializer(name: str, tensor: ir.TensorProtocol) -> ir.Value:
    """A new value called `name` that holds `tensor`, not in a graph yet: for `Edit.initializers`."""
    shape = ir.Shape(tensor.shape.numpy())
    return ir.Value(name=name, shape=shape, type=ir.TensorType(tensor.dtype), const_value=tensor)
