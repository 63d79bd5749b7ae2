"""Which weights share their bytes."""

from __future__ import annotations

from math import prod

import onnx_ir as ir

from graphopt.ir._expression import FileRange
from graphopt.ir._operations import Reshaped
from graphopt.ir._simplify import simplified
from graphopt.ir._tensor import LazyTensor

__all__ = ["content_of"]


def content_of(tensor: ir.TensorProtocol) -> object:
    """The same for weights that share their bytes, whatever their shapes; no weight of a file is read."""
    if isinstance(tensor, ir.ExternalTensor):
        return tensor.path, tensor.offset, tensor.length
    if not isinstance(tensor, LazyTensor):
        return id(tensor)
    expr = tensor.expr
    while isinstance(expr, Reshaped):
        expr = expr.source
    if isinstance(expr, FileRange):
        return expr.path, expr.stamp, expr.offset, expr.length
    return simplified(Reshaped(expr, (prod(expr.shape),))).identity
