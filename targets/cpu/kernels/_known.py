"""What is known of a graph's values before it runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

__all__ = ["FLOAT", "INT8", "INT32", "OWN_DOMAIN", "UINT8", "Known"]

OWN_DOMAIN = "graphopt"

FLOAT, UINT8, INT8, INT32 = 1, 2, 3, 6
"""Of onnx.TensorProto."""


@dataclass(frozen=True)
class Known:
    """Constants, which no caller can replace, inputs, and what is said of other values, by name."""

    constants: dict[str, onnx.TensorProto]
    inputs: dict[str, onnx.TypeProto.Tensor]
    values: dict[str, onnx.TypeProto.Tensor]

    @classmethod
    def of(cls, graph: onnx.GraphProto) -> Known:
        inputs = {value.name: value.type.tensor_type for value in graph.input}
        values = {value.name: value.type.tensor_type for value in (*graph.value_info, *graph.output)}
        return cls({x.name: x for x in graph.initializer if x.name not in inputs}, inputs, values | inputs)

    def is_constant(self, name: str, kind: int, size: int | None = None) -> bool:
        """Whether it is a constant of that element type and, if `size` is given, so many elements."""
        found = self.constants.get(name)
        return found is not None and found.data_type == kind and (size is None or prod(found.dims) == size)

    def is_scale(self, names: Sequence[str]) -> bool:
        """Whether it is one scale, one over which is exact as others are, with one zero point of bytes."""
        scale, zero = names
        if not self.is_constant(scale, FLOAT, 1) or not self.is_constant(zero, UINT8, 1):
            return False
        return all(1e-30 < number < 1e30 for number in self.numbers(scale))

    def is_float(self, name: str) -> bool:
        """Whether it is said to be of float32."""
        return name in self.values and self.values[name].elem_type == FLOAT

    def dims(self, name: str, kind: int) -> tuple[int, ...]:
        """The sizes of a constant of that element type; () for anything else."""
        found = self.constants.get(name)
        return tuple(found.dims) if found is not None and found.data_type == kind else ()

    def numbers(self, name: str) -> list[float]:
        """The entries of a constant that the graph holds itself; none of anything else."""
        from onnx import TensorProto, numpy_helper

        found = self.constants.get(name)
        if found is None or found.data_location == TensorProto.EXTERNAL:
            return []
        entries: list[float] = numpy_helper.to_array(found).reshape(-1).tolist()
        return entries

    def shape(self, name: str) -> tuple[int | str, ...]:
        """What is said of a value's sizes, if something is of each of them: numbers, or names of such."""
        found = self.values.get(name)
        dims = [dim.dim_value or dim.dim_param for dim in found.shape.dim] if found is not None else []
        return tuple(dims) if all(dims) else ()
