"""The small questions passes ask, and graphs as text."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from graphopt.ir import (
    InMemory,
    LazyTensor,
    Unbound,
    checker_problems,
    const_of,
    consumers,
    has_data,
    infer_types,
    is_output,
    parse,
    producer,
    scalar_of,
    text,
    to_proto,
)

SOURCE = """
<ir_version: 10, opset_import: ["" : 23, "com.microsoft" : 1]>
g (float[B,4] x, float[1] d) => (float[B,4] y)
<float[4] w = {1.0, 2.0, 3.0, 4.0}, float[1] d = {5.0}, float[1,1] one = {1.5}, float[0] none = {},
 string[1] s = {"a"}>
{
  a = Mul(x, w)
  b = Add(a, a)
  i = Constant<value_int = 3>()
  f = Constant<value_floats = [1.0, 2.0]>()
  t = Constant<value = int64[2] {7, 8}>()
  z = Constant<value_string = "no">()
  e = com.microsoft.QuickGelu(b)
  y = Clip(e, , a)
}
"""


@pytest.fixture
def model():
    return parse(SOURCE)


@pytest.fixture
def value(model):
    made = {v.name: v for node in model.graph for v in node.outputs}
    return (made | dict(model.graph.initializers) | {v.name: v for v in model.graph.inputs}).__getitem__


@pytest.mark.parametrize(
    ("name", "array"), [("w", [1, 2, 3, 4]), ("i", 3), ("f", [1, 2]), ("t", [7, 8]), ("none", [])]
)
def test_constants_are_found(value, name, array):
    assert const_of(value(name)).tolist() == array


@pytest.mark.parametrize("name", ["x", "a", "d", "z"])
def test_what_may_vary_is_no_constant(value, name):
    assert const_of(value(name)) is None


def test_absent_unbound_and_big_values_are_no_constants(value):
    weight = value("w")
    assert const_of(None) is None
    weight.const_value = LazyTensor(Unbound("w", ir.DataType.FLOAT, (4,)))
    assert const_of(weight) is None
    weight.const_value = LazyTensor(InMemory(np.zeros((1 << 18) + 1, np.float32)))
    assert const_of(weight) is None
    weight.const_value = LazyTensor(InMemory(np.zeros(1 << 18, np.float32)))
    assert const_of(weight) is not None


@pytest.mark.parametrize(
    ("name", "number"), [("i", 3.0), ("one", 1.5), ("w", None), ("none", None), ("s", None), ("d", None)]
)
def test_scalars(value, name, number):
    assert scalar_of(value(name)) == number


def test_neighbours(model, value):
    mul, add = model.graph[0], model.graph[1]
    assert producer(value("a"), "Mul") is mul
    assert producer(value("a"), "Add") is None
    assert producer(value("e"), "QuickGelu") is None
    assert producer(value("e"), "QuickGelu", "com.microsoft") is not None
    assert producer(value("x"), "Mul") is None
    assert producer(None, "Mul") is None
    assert set(consumers(value("a"))) == {add, model.graph[-1]}
    assert consumers(value("y")) == ()
    assert is_output(value("y"))
    assert not is_output(value("a"))


def test_text_shows_structure_and_small_weights_alone(model):
    model.graph.initializers["w"].const_value = LazyTensor(InMemory(np.zeros(100, np.float32)), "w")
    model.graph[0].metadata_props["provenance"] = "somewhere"
    model.producer_name = "someone"
    shown = text(model)
    assert 'float[100] w = ["location": "absent"]' in shown
    assert "a = Mul (x, w)" in shown
    assert 'y = Clip (e, "", a)' in shown
    assert not any(word in shown for word in ("provenance", "somewhere", "someone", "a/Mul", "offset"))


def test_text_parses_to_the_same_text(model):
    model.graph.initializers["w"].const_value = LazyTensor(InMemory(np.zeros(100, np.float32)), "w")
    again = parse(text(model))
    assert text(again) == text(model)
    assert not has_data(again.graph.initializers["w"].const_value)
    assert again.graph[0].name == "a/Mul"


def test_a_proto_without_weights_keeps_the_small_ones(model):
    big = LazyTensor(Unbound("w", ir.DataType.FLOAT, (1024,)), "w")
    model.graph.initializers["w"].const_value = big
    held = {t.name: t for t in to_proto(model, weights="none").graph.initializer}
    assert list(held["w"].dims) == [1024]
    assert not held["w"].raw_data
    assert onnx.numpy_helper.to_array(held["one"]).tolist() == [[1.5]]
    assert model.graph.initializers["w"].const_value is big


def test_a_proto_with_weights_holds_them(model):
    array = np.arange(1000, dtype=np.float32)
    model.graph.initializers["w"].const_value = LazyTensor(InMemory(array), "w")
    (tensor,) = (t for t in to_proto(model).graph.initializer if t.name == "w")
    assert tensor.raw_data == array.tobytes()


def test_the_checker_needs_no_weights_even_in_subgraphs_and_inputs():
    model = parse(
        """<ir_version: 10, opset_import: ["" : 23]>
        g (float[1000] x, bool c, float[1000] v) => (float[1000] y)
        <float[1000] v = ["location": "absent"]> {
          y = If(c) <then_branch = t () => (float[1000] p)
                         <float[1000] w = ["location": "absent"]> { p = Add(x, w) },
                     else_branch = e () => (float[1000] q)
                         <float[1000] w = ["location": "absent"]> { q = Sub(x, w) }>
        }"""
    )
    assert checker_problems(model) == []
    model.graph[0].op_type = "Iff"
    assert len(checker_problems(model)) == 1


def test_missing_types_are_inferred_and_others_stay(value, model):
    value("b").shape = ir.Shape(["mine", 4])
    infer_types(model)
    assert (value("a").dtype, str(value("a").shape)) == (ir.DataType.FLOAT, "[B,4]")
    assert (value("b").dtype, str(value("b").shape)) == (ir.DataType.FLOAT, "[mine,4]")
    assert str(value("t").shape) == "[2]"


def test_types_are_inferred_inside_branches():
    model = parse(
        """<ir_version: 10, opset_import: ["" : 23]>
        g (bool c, float[B,4] x) => (float[B,4] y) {
          y = If(c) <then_branch = t () => (float[B,4] a) { s = Cast<to = 10>(x) a = Cast<to = 1>(s) },
                     else_branch = e () => (float[B,4] b) { b = Relu(x) }>
        }"""
    )
    infer_types(model)
    (inner,) = (n.outputs[0] for n in model.graph.all_nodes() if n.outputs[0].name == "s")
    assert (inner.dtype, str(inner.shape)) == (ir.DataType.FLOAT16, "[B,4]")
