"""Finding the constant matrices that a graph multiplies by, as rows to be quantized."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from fnmatch import fnmatchcase

import onnx_ir as ir

from graphopt.ir._expression import Expr
from graphopt.ir._graph import is_output, producer
from graphopt.ir._operations import Cast, Transposed
from graphopt.ir._simplify import simplified
from graphopt.ir._tensor import has_data, lazy

__all__ = ["ConstantMatrix", "constant_matrix", "constant_table", "name_matches"]

_HALF_OR_SINGLE = (ir.DataType.FLOAT, ir.DataType.FLOAT16)
_SINGLE = (ir.DataType.FLOAT,)


@dataclass(frozen=True)
class ConstantMatrix:
    """x times a constant: `rows` is float32 [N, K], one row for each output, and `dtype` that of the product.

    `name` is what the weight was called before passes changed what it holds: `NAME~how` is made of NAME.
    `bias` is the node's own, to be added to the product. `removed` are the nodes to take away with it.
    """

    x: ir.Value
    rows: Expr
    name: str
    bias: ir.Value | None
    removed: tuple[ir.Node, ...]
    dtype: ir.DataType = ir.DataType.FLOAT

    @property
    def size(self) -> int:
        count, width = self.rows.shape
        return count * width


def constant_matrix(node: ir.Node, dtypes: Container[ir.DataType] = _SINGLE) -> ConstantMatrix | str | None:
    """What `node` multiplies by, of one of `dtypes`, or why it will not do; None where it is no product.

    Transposes are taken into the rows: weights that a checkpoint keeps as [out, in] are read as they lie.
    """
    if node.domain != "" or node.op_type not in ("MatMul", "Gemm"):
        return None
    x, weight = node.inputs[0], node.inputs[1]
    removed, transposed = [node], False
    turn = producer(weight, "Transpose")
    if turn is not None and list(turn.attributes.get_ints("perm") or (1, 0)) == [1, 0]:
        weight, transposed = turn.inputs[0], True
        if len(turn.outputs[0].uses()) == 1 and not is_output(turn.outputs[0]):
            removed.append(turn)
    tensor = _constant(weight)
    if x is None or weight is None or tensor is None:
        widened = producer(weight, "DequantizeLinear")
        if widened is not None and _constant(widened.inputs[0]) is not None:
            return "its weight is quantized already"
        return "its second operand is not a constant"
    if len(tensor.shape) != 2 or tensor.dtype not in dtypes:
        return _other_than("its second operand", tensor)
    if not has_data(tensor):
        return "its weight has no data"
    bias = None
    if node.op_type == "Gemm":
        attributes = node.attributes
        bias = node.inputs[2] if len(node.inputs) > 2 else None
        turned: int = attributes.get_int("transA", 0)
        factors = {attributes.get_float("alpha", 1.0), attributes.get_float("beta", 1.0) if bias else 1.0}
        if factors != {1.0} or turned:
            return "it is a Gemm with a factor or a transposed first operand"
        if attributes.get_int("transB", 0):
            transposed = not transposed
    expr = Cast(lazy(tensor), ir.DataType.FLOAT)
    rows = simplified(expr if transposed else Transposed(expr, (1, 0)))
    return ConstantMatrix(x, rows, _name(weight), bias, tuple(removed), tensor.dtype)


def _other_than(what: str, tensor: ir.TensorProtocol) -> str:
    if len(tensor.shape) != 2:
        return f"{what} is not a matrix"
    return f"{what} is a matrix of {str(tensor.dtype).lower()}"


def constant_table(node: ir.Node) -> tuple[str, Expr] | None:
    """Name (as `ConstantMatrix` has it) and rows, float32 [V, K], of a constant that a Gather takes from."""
    if node.domain != "" or node.op_type != "Gather" or node.attributes.get_int("axis", 0) != 0:
        return None
    weight = node.inputs[0]
    tensor = _constant(weight)
    if weight is None or tensor is None or len(tensor.shape) != 2 or tensor.dtype not in _HALF_OR_SINGLE:
        return None
    if not has_data(tensor):
        return None
    return _name(weight), simplified(Cast(lazy(tensor), ir.DataType.FLOAT))


def name_matches(name: str, globs: str) -> bool:
    """Whether one of `globs`, separated by commas, matches the whole of `name`."""
    return any(fnmatchcase(name, glob.strip()) for glob in globs.split(","))


def _name(weight: ir.Value) -> str:
    return (weight.name or "weight").partition("~")[0]


def _constant(value: ir.Value | None) -> ir.TensorProtocol | None:
    if value is None or not value.is_initializer() or value.is_graph_input():
        return None
    return value.const_value
