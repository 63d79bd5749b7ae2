"""The inputs and outputs of a model."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import BeforeValidator, Field

from graphopt.errors import BadInput

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["Dim", "Interface", "TensorSpec"]


Dim = int | str | None


@dataclass(frozen=True)
class TensorSpec:
    """One input or output. A dim is a size, the name of what varies, or None; `dtype` is numpy's.

    What is no tensor has no dims, and a dtype such as "sequence"; an output whose rank is unknown has none.
    In JSON (graphopt.json) the dims are called `shape`.
    """

    name: str
    dtype: str
    dims: Annotated[tuple[Dim, ...], Field(alias="shape"), BeforeValidator(lambda dims: dims or ())]


@dataclass(frozen=True)
class Interface:
    """The inputs and outputs of a model, in order."""

    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()

    @classmethod
    def of(cls, model: ir.Model) -> Interface:
        """The interface a graph declares, without inputs that are also initializers: they have a default."""
        graph = model.graph
        return cls(
            tuple(_spec(v) for v in graph.inputs if v.name not in graph.initializers),
            tuple(_spec(v) for v in graph.outputs),
        )

    def input(self, name: str) -> TensorSpec | None:
        """The input called `name`, if there is one."""
        return next((spec for spec in self.inputs if spec.name == name), None)

    def output(self, name: str) -> TensorSpec | None:
        """The output called `name`, if there is one."""
        return next((spec for spec in self.outputs if spec.name == name), None)

    def matching(self, pattern: str) -> tuple[TensorSpec, ...]:
        """Inputs whose whole name matches the regular expression `pattern`, in order."""
        return tuple(spec for spec in self.inputs if re.fullmatch(pattern, spec.name))


def _spec(value: ir.Value) -> TensorSpec:
    import onnx_ir as ir

    from graphopt.ir import holds_map

    if isinstance(value.type, ir.SequenceType | ir.OptionalType) and value.name is not None:
        kind = "map" if holds_map(value.type) else type(value.type).__name__.removesuffix("Type").lower()
        return TensorSpec(value.name, kind, ())
    if value.name is None or value.dtype is None:
        raise BadInput(f"graph input or output {value.name!r} is of no known type")
    if value.shape is None:
        return TensorSpec(value.name, str(value.dtype.numpy()), ())
    dims = tuple(d.value if isinstance(d, ir.SymbolicDim) else int(d) for d in value.shape)
    return TensorSpec(value.name, str(value.dtype.numpy()), dims)
