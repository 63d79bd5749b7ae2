"""Making new nodes off-graph, and telling which old ones they leave without a use."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

__all__ = ["Nodes", "orphans", "static_dim", "swaps_heads"]

MICROSOFT = "com.microsoft"


class Nodes:
    """New nodes and initializers for one edit, named after what they replace.

    Every new node is called `{base}/{label}` and so are its first output and its initializers.
    """

    def __init__(self, base: str) -> None:
        self.base = base
        self.nodes: list[ir.Node] = []
        self.initializers: list[ir.Value] = []

    def op(
        self,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        label: str,
        *,
        like: ir.Value | None = None,
        dtype: ir.DataType | None = None,
        shape: Sequence[int | str | ir.SymbolicDim | None] | None = None,
        domain: str = "",
        **attributes: Any,
    ) -> ir.Value:
        """The one output of a new node, with the dtype and shape given, or those of `like`."""
        value = self._value(f"{self.base}/{label}", like, dtype, shape)
        self._add(op_type, inputs, label, [value], domain, attributes)
        return value

    def many(
        self,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        label: str,
        like: Sequence[ir.Value | None],
        *,
        domain: str = "",
        **attributes: Any,
    ) -> list[ir.Value]:
        """The outputs of a new node, each like the value given for it; None leaves an optional output out."""
        values = [
            ir.Value(name="")
            if old is None
            else self._value(f"{self.base}/{label}{index or ''}", old, None, None)
            for index, old in enumerate(like)
        ]
        self._add(op_type, inputs, label, values, domain, attributes)
        return values

    def copy(self, node: ir.Node, inputs: Sequence[ir.Value | None], label: str) -> list[ir.Value]:
        """Outputs of a node like `node` on other inputs, of the same dtypes and of unknown shapes."""
        values = [
            self._value(f"{self.base}/{label}{index or ''}", None, old.dtype, None)
            for index, old in enumerate(node.outputs)
        ]
        self._add(node.op_type, inputs, label, values, node.domain, dict(node.attributes))
        return values

    def constant(self, array: Any, dtype: Any, label: str) -> ir.Value:
        """A new initializer that holds `array`."""
        return self.weight(ir.tensor(np.asarray(array, dtype)), f"{self.base}/{label}")

    def weight(self, tensor: ir.TensorProtocol, name: str) -> ir.Value:
        """A new initializer called `name`."""
        value = ir.Value(
            name=name,
            shape=ir.Shape(tensor.shape.numpy()),
            type=ir.TensorType(tensor.dtype),
            const_value=tensor,
        )
        self.initializers.append(value)
        return value

    @staticmethod
    def _value(
        name: str,
        like: ir.Value | None,
        dtype: ir.DataType | None,
        shape: Sequence[int | str | ir.SymbolicDim | None] | None,
    ) -> ir.Value:
        value = ir.Value(name=name)
        dtype = dtype or (None if like is None else like.dtype)
        if dtype is not None:
            value.type = ir.TensorType(dtype)
        if shape is not None:
            value.shape = ir.Shape(shape)
        elif like is not None and like.shape is not None:
            value.shape = like.shape.copy()
        return value

    def _add(
        self,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        label: str,
        outputs: Sequence[ir.Value],
        domain: str,
        attributes: Mapping[str, Any],
    ) -> None:
        self.nodes.append(
            ir.Node(
                domain,
                op_type,
                inputs,
                attributes=ir.convenience.convert_attributes(attributes),
                outputs=outputs,
                name=f"{self.base}/{label}",
            )
        )


def orphans(removed: Iterable[ir.Node], kept: Collection[ir.Value]) -> list[ir.Node]:
    """`removed`, and every node before them that then has no use, `kept` being values that new nodes use."""
    gone = dict.fromkeys(removed)
    stack = [value.producer() for node in gone for value in node.inputs if value is not None]
    while stack:
        node = stack.pop()
        if node is None or node in gone or not all(_unused(output, gone, kept) for output in node.outputs):
            continue
        gone[node] = None
        stack.extend(value.producer() for value in node.inputs if value is not None)
    return list(gone)


def _unused(value: ir.Value, gone: Collection[ir.Node], kept: Collection[ir.Value]) -> bool:
    return not value.is_graph_output() and value not in kept and all(user in gone for user, _ in value.uses())


def static_dim(value: ir.Value | None, axis: int) -> int | None:
    """The size of an axis, where it is known."""
    if value is None or value.shape is None or not -len(value.shape) <= axis < len(value.shape):
        return None
    dim = value.shape[axis]
    return dim if isinstance(dim, int) else None


def swaps_heads(node: ir.Node | None) -> bool:
    """Whether `node` exchanges the sequence and the heads of a value of rank 4."""
    return (
        node is not None
        and node.op_type == "Transpose"
        and node.domain == ""
        and list(node.attributes.get_ints("perm") or ()) == [0, 2, 1, 3]
    )
