"""Making the new nodes of an edit, off-graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from graphopt.ir import initializer

__all__ = ["Nodes"]


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
        value = initializer(name, tensor)
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
