"""Bits of a weight count what is stored, once."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from graphopt.evaluate._stored_bits import bits_a_weight
from graphopt.ir import MICROSOFT, LazyTensor, lazy
from graphopt.ir._operations import Reshaped


def value(name: str, tensor: ir.TensorProtocol) -> ir.Value:
    return ir.Value(name=name, const_value=tensor, shape=tensor.shape, type=ir.TensorType(tensor.dtype))


def test_a_table_that_is_also_multiplied_by_is_stored_once() -> None:
    levels = LazyTensor(lazy(ir.tensor(np.zeros((8, 1, 16), np.uint8))), name="levels")
    scales = LazyTensor(lazy(ir.tensor(np.ones(8, np.float32))), name="scales")
    parts = [value("levels", levels), value("scales", scales)]
    turned = value("turned", LazyTensor(Reshaped(scales.expr, (8, 1)), name="turned"))
    x, tokens = (ir.val(name, shape=[1, size]) for name, size in (("x", 32), ("tokens", 4)))
    says = {"bits": 4, "block_size": 32}
    product = ir.node("MatMulNBits", [x, *parts], {"K": 32, "N": 8, **says}, domain=MICROSOFT)
    lookup = ir.node("GatherBlockQuantized", [parts[0], tokens, turned], says, domain=MICROSOFT)
    graph = ir.Graph(
        [x, tokens],
        [product.outputs[0], lookup.outputs[0]],
        nodes=[product, lookup],
        initializers=[*parts, turned],
        name="tied",
    )

    assert bits_a_weight([ir.Model(graph, ir_version=10)]) == pytest.approx(5.0)
