"""What is known of a graph's values before it runs."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

__all__ = ["FLOAT", "INT8", "OWN_DOMAIN", "UINT8", "Known"]

OWN_DOMAIN = "graphopt"

FLOAT, UINT8, INT8 = 1, 2, 3
"""Of onnx.TensorProto."""


@dataclass(frozen=True)
class Known:
    """Constants, which no caller can replace, and inputs, by name."""

    constants: dict[str, onnx.TensorProto]
    inputs: dict[str, onnx.TypeProto.Tensor]

    @classmethod
    def of(cls, graph: onnx.GraphProto) -> Known:
        inputs = {value.name: value.type.tensor_type for value in graph.input}
        return cls({x.name: x for x in graph.initializer if x.name not in inputs}, inputs)

    def is_constant(self, name: str, kind: int, size: int | None = None) -> bool:
        """Whether it is a constant of that element type and, if `size` is given, so many elements."""
        found = self.constants.get(name)
        return found is not None and found.data_type == kind and (size is None or prod(found.dims) == size)
