"""What is random: operators, nodes that hold graphs with such, and calls of functions."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest

from graphopt.ir import is_random, parse, to_proto

FUNCTIONS = """
<domain: "local", opset_import: ["": 23]> noisy (a) => (b) { r = Bernoulli(a)  b = Add(a, r) }
<domain: "local", opset_import: ["": 23, "local": 1]> outer (a) => (b) { c = local.noisy(a)  b = Neg(c) }
<domain: "local", opset_import: ["": 23]> plain (a) => (b) { b = Neg(a) }
<domain: "local", opset_import: ["": 23]> training (a, mode) => (b) { b, m = Dropout(a, , mode) }
"""
RANDOM = {
    "Bernoulli": "y = Bernoulli(x)",
    "seeded": "y = RandomNormalLike<seed = 1.0>(x)",
    "uniform": "y = RandomUniform<shape = [4]>()",
    "trains": "y, m = Dropout(x, , yes)",
    "may train": "y, m = Dropout(x, , flag)",
    "in a branch": "y = If(flag) <then_branch = t () => (float[N] a) { a = RandomNormalLike(x) },"
    " else_branch = e () => (float[N] b) { b = Neg(x) }>",
    "in a branch of a branch": "y = If(flag) <then_branch = t () => (float[N] a) { a = If(flag)"
    " <then_branch = tt () => (float[N] c) { c = Bernoulli(x) }, else_branch = te () => (float[N] d)"
    " { d = Neg(x) }> }, else_branch = e () => (float[N] b) { b = Neg(x) }>",
    "function": "y = local.noisy(x)",
    "function of a function": "y = local.outer(x)",
    "function told to train": "y = local.training(x, flag)",
}
FIXED = {
    "Neg": "y = Neg(x)",
    "Dropout": "y = Dropout(x)",
    "does not train": "y, m = Dropout(x, , no)",
    "AffineGrid": "y = AffineGrid(theta, size)",
    "If": "y = If(flag) <then_branch = t () => (float[N] a) { a = Abs(x) },"
    " else_branch = e () => (float[N] b) { b = Neg(x) }>",
    "function": "y = local.plain(x)",
    "unknown": "y = elsewhere.Gelu(x)",
    "runtime": "y = com.microsoft.FastGelu(x)",
}
GRAPH = """<ir_version: 10, opset_import: ["": 23, "local": 1, "elsewhere": 1, "com.microsoft": 1]>
g (float[N] x, bool flag, float[1,2,3] theta, int64[4] size) => (float[N] y)
<bool yes = {1}, bool no = {0}> { %s }
"""


@pytest.mark.parametrize(
    ("statement", "expected"), [(s, True) for s in RANDOM.values()] + [(s, False) for s in FIXED.values()]
)
def test_what_is_random(statement: str, expected: bool) -> None:
    model = parse(GRAPH % statement + FUNCTIONS)
    (node,) = model.graph
    assert is_random(node, model) is expected


def test_these_operators_of_the_standard_draw() -> None:
    model = parse(GRAPH % "y = Neg(x)" + FUNCTIONS)
    names = {
        schema.name
        for schema in onnx.defs.get_all_schemas()
        if is_random(ir.Node(schema.domain, schema.name, [None, None, model.graph.inputs[1]]), model)
    }
    drawing = ["RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"]
    assert sorted(names) == ["Bernoulli", "Dropout", "Multinomial", *drawing]


def test_a_seed_does_not_make_two_runs_the_same() -> None:
    model = parse("""<ir_version: 10, opset_import: ["": 21]>
        g () => (float[8] y) { y = RandomNormal<shape = [8], seed = 1.0>() }""")
    session = ort.InferenceSession(to_proto(model).SerializeToString())
    first, second = session.run(None, {})[0], session.run(None, {})[0]
    assert not np.array_equal(first, second)
