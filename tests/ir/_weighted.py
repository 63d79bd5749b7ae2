"""A model of one big weight, one small one and two nodes."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from graphopt.ir import parse

SOURCE = """
<ir_version: 10, opset_import: ["" : 23]>
g (float[B,64] x) => (float[B,64] y)
<float[64,64] w = ["location": "absent"], int64[1] k = {0}>
{
  s = MatMul(x, w)
  y = Relu(s)
}
"""


def weighted(weight: np.ndarray) -> ir.Model:
    """relu(x @ weight), `weight` being float32[64,64] in memory."""
    model = parse(SOURCE)
    model.graph.initializers["w"].const_value = ir.tensor(weight, name="w")
    return model
