"""What `optimize --explain` says of graphs that are one node, constant or axis off what a pass takes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from graphopt.testing import Golden
from tests._cache import ROOT

FOLDER = ROOT / "tests" / "golden"

# The golden file, what is changed in its graph, and the one thing that its pass says then.
TABLE = [
    (
        "raise-attention/decomposed",
        ("y = MatMul(p, v)", "p2 = Dropout(p) y = MatMul(p2, v)"),
        "Softmax, then Dropout where MatMul is looked for",
    ),
    (
        "raise-attention/decomposed",
        ("p = Softmax<axis = 3>(t)", "p0 = Softmax<axis = 3>(t) p = Mul(p0, scale)"),
        "Softmax, then Mul where MatMul is looked for",
    ),
    ("raise-attention/decomposed", ("axis = 3", "axis = 2"), "the softmax is not over the keys"),
    (
        "raise-attention/decomposed",
        ("t = Mul(s, scale)", "t = Relu(s)"),
        "Relu where scores or a mask are looked for",
    ),
    ("raise-gelu/bert", ("a = Add(e, one)", "a = Sub(e, one)"), "Erf, then Sub where Add is looked for"),
    ("raise-gelu/bert", ("p = Mul(x, a)", "p = Div(x, a)"), "Erf -> Add, then Div where Mul is looked for"),
    (
        "raise-gelu/bert",
        ("a = Add(e, one)", "a = Add(e, x)"),
        "its sum is not with a number, or not multiplied with one value and a number",
    ),
    ("raise-gelu/fast", ("g1 = Add(one, t)", "g1 = Sub(one, t)"), "Tanh, then Sub where Add is looked for"),
    (
        "raise-gelu/fast",
        ("c2 = Mul(c1, x)", "c2 = Mul(c1, half)"),
        "what tanh is taken of is not a number times x + 0.044715 x^3",
    ),
    (
        "raise-layer-norm/bert",
        ("root = Sqrt(safe)", "root = Exp(safe)"),
        "ReduceMean -> Add, then Exp where Sqrt or Pow is looked for",
    ),
    (
        "raise-layer-norm/bert",
        ("normed = Div(centred, root)", "normed = Div(x, root)"),
        "the root of the mean of squares does not divide what is squared",
    ),
    (
        "raise-layer-norm/bert",
        ("safe = Add(variance, eps)", "safe = Max(variance, eps)"),
        "ReduceMean, then Max where Add is looked for",
    ),
    (
        "raise-rms-norm/llama",
        ("root = Sqrt(safe)", "root = Exp(safe)"),
        "ReduceMean -> Add, then Exp where Sqrt or Pow is looked for",
    ),
    (
        "raise-rms-norm/llama",
        ("safe = Add(mean, eps)", "safe = Max(mean, eps)"),
        "ReduceMean, then Max where Add is looked for",
    ),
    (
        "raise-rms-norm/llama",
        ("normed = Mul(x, inverse)", "normed = Add(x, inverse)"),
        "ReduceMean -> Add -> Sqrt -> Reciprocal, then Add where Div or Mul is looked for",
    ),
    ("raise-rms-norm/llama", ("last = {-1}", "last = {1}"), "the mean is not over the last axis"),
    (
        "raise-rope/halves",
        ("y = Add(straight, across)", "y = Sub(straight, across)"),
        "Neg -> Concat -> Mul, then Sub where Add is looked for",
    ),
    (
        "raise-rope/halves",
        ("back = Neg(high)", "back = Neg(low)"),
        "what sin multiplies does not turn halves or pairs of x, or x is not of four axes and known size",
    ),
    (
        "raise-rope/halves",
        ("across = Mul(rotated, sin)", "across = Div(rotated, sin)"),
        "Neg -> Concat, then Div where Mul is looked for",
    ),
    (
        "raise-silu/divided",
        ("y = Div(x, d)", "y = Sub(x, d)"),
        "Exp -> Add, then Sub where Div or Reciprocal is looked for",
    ),
    (
        "raise-silu/divided",
        ("y = Div(x, d)", "y = Div(n, d)"),
        "what is divided is neither 1 nor x of 1 + exp(-x), or no number is added",
    ),
    ("raise-silu/divided", ("one = {1.0}", "one = {1.5}"), "the addend is 1.5, not 1"),
    ("raise-split/given-sizes", ("one = {1}", "one = {2}"), "its parts, or which are taken, are not known"),
    (
        "split-heads/whole-attention",
        ("y = Reshape(rows, y_shape)", "r2 = Relu(rows) y = Reshape(r2, y_shape)"),
        "MatMul -> Softmax -> MatMul, then Relu where Reshape is looked for",
    ),
    (
        "lower-quick-gelu/silu-and-scaled",
        ("silu = Mul(gate, x)", "silu = Div(x, gate)"),
        "Sigmoid, then Div where Mul is looked for",
    ),
    (
        "lower-skip-norm/rms-with-residual",
        ("residual = Add(x, y)", "residual = Sub(x, y)"),
        "RMSNormalization is of Sub, where Add is looked for",
    ),
    (
        "lower-skip-norm/rms-with-residual",
        ("residual = Add(x, y)", "sum = Add(x, y) residual = Identity(sum)"),
        "RMSNormalization is of Identity, where Add is looked for",
    ),
    (
        "pack-qkv/three-projections",
        ("k = MatMul(x, attn_k_weight)", "k0 = MatMul(x, attn_k_weight) k = Relu(k0)"),
        "keys are not made by a product, a constant added perhaps",
    ),
    (
        "quantize-weights/product",
        ("y = MatMul(x, w)", "w1 = Relu(w) y = MatMul(x, w1)"),
        "its second operand is not a constant",
    ),
]


@pytest.mark.parametrize(("name", "change", "said"), TABLE, ids=[f"{row[0]}: {row[1][1]}" for row in TABLE])
def test_one_thing_off_is_one_near_miss(name: str, change: tuple[str, str], said: str) -> None:
    golden = Golden.read(FOLDER / f"{name}.txt")
    assert change[0] in golden.before
    ran = replace(golden, before=golden.before.replace(*change)).run()
    assert ran.reasons == [said]


@pytest.mark.parametrize(
    "operators",
    ["y = Softmax(x)", "y = ReduceMean(x)", "y = Sigmoid(x)", "n = Neg(x) y = Exp(n)", "y = Tanh(x)"],
)
@pytest.mark.parametrize(
    "name", ["raise-attention", "raise-gelu", "raise-rms-norm", "raise-silu", "lower-quick-gelu"]
)
def test_operators_that_are_something_else_are_passed_over(name: str, operators: str) -> None:
    graph = f'<ir_version: 10, opset_import: ["" : 23]> g (float[B,4] x) => (float[M,K] y) {{ {operators} }}'
    ran = Golden(FOLDER, {"pass": name, "bind": "B=2"}, graph, None).run()
    assert (ran.applied, ran.reasons) == (0, [])
