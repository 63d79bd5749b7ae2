"""What onnxruntime says of a session's inputs and outputs, as specs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from graphopt.interface import TensorSpec

__all__ = ["session_specs"]

_DTYPES = {"float": "float32", "double": "float64", "string": "object"}
_OTHERS = {"seq": "sequence"}


def session_specs(described: Iterable[Any]) -> tuple[TensorSpec, ...]:
    """Specs of what an `onnxruntime.InferenceSession` describes: its `get_inputs()`, `get_outputs()`, …"""
    return tuple(TensorSpec(one.name, _dtype(one.type), tuple(one.shape)) for one in described)


def _dtype(kind: str) -> str:
    """numpy's "float32" of onnxruntime's "tensor(float)"; what is no tensor as `TensorSpec` has it."""
    outer, _, inner = kind.removesuffix(")").partition("(")
    return _DTYPES.get(inner, inner) if outer == "tensor" else _OTHERS.get(outer, outer)
