"""A model of half precision in single precision."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from graphopt.ir import in_single, parse
from graphopt.testing import outputs, session

MODEL = """
<ir_version: 10, opset_import: ["" : 21, "own" : 1]>
g (KIND[N] x, bool c) => (KIND[N] y) <float third = {0.33333333}>
{
  t = Cast<to = TO>(third)
  k = Constant<value = KIND[1] {TWO}>()
  z = If(c) <
    then_branch = one () => (KIND[N] u) { a = Mul(x, t) u = own.twice(a) },
    else_branch = other () => (KIND[N] v) { w = Cast<to = 1>(x) e = Sqrt(w) v = Cast<to = TO>(e) }
  >
  y = Mul(z, k)
}
<opset_import: ["" : 21], domain: "own">
twice (a) => (b) { two = Constant<value = KIND[1] {TWO}>() b = Mul(a, two) }
"""


def model(kind: str, to: int) -> ir.Model:
    two = str(np.float16(2).view(np.uint16)) if kind == "float16" else "2.0"
    return parse(MODEL.replace("KIND", kind).replace("= TO>", f"= {to}>").replace("TWO", two))


@pytest.mark.parametrize("c", [True, False])
def test_nothing_is_rounded_to_16_bits(c: bool) -> None:
    """Weights, constants, types and casts, in branches and functions too."""
    made = model("float16", 10)
    assert in_single(made)
    x = np.linspace(0.1, 3, 7, dtype=np.float32)
    (y,) = outputs(session(made), {"x": x, "c": np.asarray(c)}).values()
    (expected,) = outputs(session(model("float", 1)), {"x": x, "c": np.asarray(c)}).values()
    assert y.dtype == np.float32
    np.testing.assert_array_equal(y, expected)
    half = outputs(session(model("float16", 10)), {"x": x.astype(np.float16), "c": np.asarray(c)})["y"]
    assert (half.astype(np.float32) != y).any()


def test_what_is_single_already_is_left() -> None:
    assert not in_single(model("float", 1))
