"""Small questions about a graph that passes keep asking."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from graphopt.ir._lazy import has_data

__all__ = ["const_of", "consumers", "is_output", "producer", "scalar_of"]

_SMALL = 1 << 20


def const_of(value: ir.Value | None) -> np.ndarray | None:
    """The array behind a small constant (initializer that is no graph input, or Constant node); None otherwise."""
    if value is None:
        return None
    tensor = value.const_value
    node = value.producer()
    if tensor is None and node is not None and node.op_type == "Constant" and node.domain == "":
        attribute = next(iter(node.attributes.values()))
        if attribute.type == ir.AttributeType.TENSOR:
            tensor = attribute.as_tensor()
        elif attribute.name in ("value_int", "value_ints"):
            return np.asarray(attribute.value, np.int64)
        elif attribute.name in ("value_float", "value_floats"):
            return np.asarray(attribute.value, np.float32)
    if tensor is None or value.is_graph_input() or tensor.nbytes > _SMALL or not has_data(tensor):
        return None
    return tensor.numpy()


def scalar_of(value: ir.Value | None) -> float | None:
    """The number behind a constant of one element; None otherwise."""
    array = const_of(value)
    return float(array.reshape(-1)[0]) if array is not None and array.size == 1 else None


def producer(value: ir.Value | None, op_type: str, domain: str = "") -> ir.Node | None:
    """The node that makes `value`, if it is an `op_type` of `domain`."""
    node = value.producer() if value is not None else None
    return node if node is not None and node.op_type == op_type and node.domain == domain else None


def consumers(value: ir.Value) -> tuple[ir.Node, ...]:
    """The nodes that use `value`, each once, in no particular order."""
    return tuple(dict.fromkeys(user for user, _ in value.uses()))


def is_output(value: ir.Value) -> bool:
    """Whether `value` is an output of its graph."""
    return value.is_graph_output()
