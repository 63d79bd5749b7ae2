"""quantize-dynamic: products in 8-bit integers, activations quantized as they come."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatch
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from graphopt.ir import LazyTensor, has_data, lazy
from graphopt.pipeline import Context, Contract, Edit, Edits, Level, NearMiss, Pass

_LARGEST = 127


class QuantizeDynamic(Pass):
    """MatMul by a constant becomes MatMulInteger, x quantized at run time and W a scale a column.

    Before: MatMul(x, W) with W float32[K, N]
    After:  q, s, z = DynamicQuantizeLinear(x); Cast(MatMulInteger(q, W8, z)) * (s * scales[N])
    onnxruntime fuses this into one kernel at load. One scale serves a whole activation tensor, so a few large
    entries cost all others their precision: blocks (quantize-weights) are slower and closer.
    Refuses: weights without data, not of two axes or not float32; names that `exclude` matches.
    """

    name: ClassVar[str] = "quantize-dynamic"
    level: ClassVar[Level] = Level.COMPRESS
    contract: ClassVar[Contract] = Contract.lossy("cosine", 0.95)
    main_graph_only: ClassVar[bool] = True

    @dataclass(frozen=True)
    class Options:
        """exclude: a glob over weight names that stay as they are."""

        exclude: str = ""

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        quantized: dict[ir.Value, tuple[ir.Value, ...]] = {}
        for node in graph:
            if node.op_type != "MatMul" or node.domain != "":
                continue
            x, weight = node.inputs
            tensor = weight.const_value if weight is not None and weight.is_initializer() else None
            if x is None or weight is None or tensor is None or weight.is_graph_input():
                continue
            if len(tensor.shape) != 2 or tensor.dtype != ir.DataType.FLOAT or not has_data(tensor):
                yield NearMiss(node.name or "MatMul", "its weight is not a float32 matrix with data")
                continue
            if fnmatch(weight.name or "", self.options.exclude):
                yield NearMiss(node.name or "MatMul", f"weight {weight.name} is left out by name")
                continue
            yield _integer_product(node, x, weight, context, quantized)


def _integer_product(
    node: ir.Node,
    x: ir.Value,
    weight: ir.Value,
    context: Context,
    quantized: dict[ir.Value, tuple[ir.Value, ...]],
) -> Edit:
    assert weight.const_value is not None
    tape = ir.tape.Tape()
    if x not in quantized:
        name = f"{x.name}/dynamic"
        quantized[x] = tuple(tape.op_multi_out("DynamicQuantizeLinear", [x], num_outputs=3, name=name))
    levels, scale, zero = quantized[x]
    values, scales = _per_column(np.asarray(lazy(weight.const_value).read(), np.float32))
    packed = _stored(values, ir.DataType.INT8, context)
    w = tape.initializer(packed, f"{weight.name}/int8")
    ws = tape.initializer(ir.tensor(scales), f"{weight.name}/scales")
    product = tape.op("MatMulInteger", [levels, w, zero], name=f"{node.name}/integer")
    wide = tape.op("Cast", [product], {"to": int(ir.DataType.FLOAT)}, name=f"{node.name}/wide")
    both = tape.op("Mul", [scale, ws], name=f"{node.name}/scale")
    y = tape.op("Mul", [wide, both], name=f"{node.name}/scaled")
    return Edit(
        "8-bit integer product",
        remove=[node],
        insert=tape.nodes,
        initializers=tape.initializers,
        replace={node.outputs[0]: y},
    )


def _per_column(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """int8[K, N] and float32[N] with weight = int8 * scale, nearly."""
    scales = np.abs(weight).max(0) / np.float32(_LARGEST)
    inverse = np.divide(1.0, scales, out=np.zeros_like(scales), where=scales != 0)
    return np.rint(weight * inverse).clip(-_LARGEST, _LARGEST).astype(np.int8), scales


def _stored(array: np.ndarray, dtype: ir.DataType, context: Context) -> ir.TensorProtocol:
    if context.scratch is None:
        return ir.tensor(array)
    return LazyTensor(context.scratch.write([array], dtype, array.shape))
