"""Which weights share their bytes."""

from __future__ import annotations

import onnx_ir as ir

from graphopt.ir._expression import FileRange
from graphopt.ir._operations import Reshaped
from graphopt.ir._tensor import LazyTensor

__all__ = ["content_of"]


def content_of(tensor: ir.TensorProtocol) -> object:
    """The same for weights that share bytes of a file, whatever their shapes; no weight is read."""
    if isinstance(tensor, ir.ExternalTensor):
        return tensor.path, tensor.offset, tensor.length
    if not isinstance(tensor, LazyTensor):
        return id(tensor)
    expr = tensor.expr
    while isinstance(expr, Reshaped):
        expr = expr.source
    if isinstance(expr, FileRange):
        return expr.path, expr.stamp, expr.offset, expr.length
    return expr.identity
