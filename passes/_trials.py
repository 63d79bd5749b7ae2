"""Small graphs that are run to measure: a product of a weight in blocks, and KL divergence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from graphopt.ir import MICROSOFT, to_proto
from graphopt.runtime import plain_options, session_of

from ._forms import Form
from ._nbits import Packed

__all__ = ["Divergence", "product"]

Array = NDArray[Any]


def product(
    packed: Packed, form: Form, width: int, level: int, bias: ir.Value | None = None
) -> Callable[[Array], Array]:
    """x [..., width] times the weight that `packed` stands for, plus `bias`, of the dtype that x has.

    In onnxruntime, at this accuracy `level`, on the thread that calls.
    """
    x = ir.Value(name="x", shape=ir.Shape(["rows", width]), type=ir.TensorType(ir.DataType.FLOAT))
    tape = ir.tape.Tape()
    weight = tape.initializer(ir.tensor(packed.weight), "weight")
    scales = tape.initializer(ir.tensor(packed.scales), "scales")
    zeros = [] if packed.zeros is None else [tape.initializer(ir.tensor(packed.zeros), "zeros")]
    y = tape.op(
        "MatMulNBits",
        [x, weight, scales, *zeros],
        {
            "K": width,
            "N": len(packed.weight),
            "bits": form.bits,
            "block_size": form.block,
            "accuracy_level": level,
        },
        domain=MICROSOFT,
    )
    y.name, y.type = "y", ir.TensorType(ir.DataType.FLOAT)
    run = _session([x], [y], tape)
    added = None if bias is None or bias.const_value is None else bias.const_value.numpy()

    def multiplied(values: Array) -> Array:
        rows = values.reshape(-1, width).astype(np.float32, copy=False)
        (found,) = run({"x": rows})
        result: Array = found.reshape(*values.shape[:-1], -1).astype(values.dtype, copy=False)
        return result if added is None else result + added

    return multiplied


class Divergence:
    """KL divergence of distributions from expected ones."""

    def __init__(self) -> None:
        expected, logits = (
            ir.Value(
                name=name,
                shape=ir.Shape(["rows", "vocabulary"]),
                type=ir.TensorType(ir.DataType.FLOAT),
            )
            for name in ("expected", "logits")
        )
        tape = ir.tape.Tape()
        log_q = tape.op("LogSoftmax", [logits], {"axis": -1})
        weighed = tape.op("Mul", [tape.op("Exp", [expected]), tape.op("Sub", [expected, log_q])])
        axes = tape.initializer(ir.tensor(np.asarray([-1], np.int64)), "axes")
        y = tape.op("ReduceSum", [weighed, axes], {"keepdims": 0})
        y.name, y.type = "kl", ir.TensorType(ir.DataType.FLOAT)
        self._run = _session([expected, logits], [y], tape)

    def expected(self, logits: Array) -> Array:
        """The logarithms of the probabilities that others are compared with, float32 [rows, vocabulary]."""
        rows = _rows(logits).astype(np.float64)
        rows -= rows.max(-1, keepdims=True)
        logarithms: Array = (rows - np.log(np.exp(rows).sum(-1, keepdims=True))).astype(np.float32)
        return logarithms

    def of(self, expected: Array, logits: Array) -> Array:
        """float32 [rows]: of each distribution, in nats."""
        (found,) = self._run({"expected": expected, "logits": _rows(logits)})
        divergence: Array = found
        return divergence


def _rows(logits: Array) -> Array:
    return logits.reshape(-1, logits.shape[-1]).astype(np.float32, copy=False)


def _session(
    inputs: list[ir.Value], outputs: list[ir.Value], tape: ir.tape.Tape
) -> Callable[[dict[str, Any]], list[Array]]:
    graph = ir.Graph(
        inputs,
        outputs,
        nodes=tape.nodes,
        initializers=tape.initializers,
        opset_imports={"": 23, MICROSOFT: 1},
        name="trial",
    )
    proto = to_proto(ir.Model(graph, ir_version=10)).SerializeToString()
    session = session_of(proto, options=plain_options(threads=1))
    return lambda feeds: list(session.run(None, feeds))
