"""The structure check: silent on good graphs, and it fails on each kind of broken one."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from graphopt.ir import LazyTensor, Unbound, parse
from graphopt.verify import check_structure

MODEL = """
<ir_version: 10, opset_import: ["" : 23]>
g (float[B,4] x, bool c) => (float[B,4] y)
<float[4] w = {1.0, 2.0, 3.0, 4.0}>
{
  a = Mul(x, w)
  b = If(c) <
    then_branch = t () => (float[B,4] p) { p = Relu(a) },
    else_branch = e () => (float[B,4] q) { q = Neg(a) }
  >
  y = Exp(b)
}
"""


@pytest.fixture
def model() -> ir.Model:
    return parse(MODEL)


def test_a_good_graph_has_no_problems(model):
    assert check_structure(model) == []


def use_before_definition(model):
    model.graph[0].append(ir.Node("", "Neg", [model.graph[2].outputs[0]], name="early"))


def duplicate_value_name(model):
    model.graph[0].outputs[0].name = "x"


def duplicate_node_name(model):
    model.graph[0].name = model.graph[2].name


def unknown_domain(model):
    model.graph[2].domain = "nobody.knows"


def no_data(model):
    model.graph.initializers["w"].const_value = LazyTensor(Unbound("w", ir.DataType.FLOAT, (4,)))


def wrong_shape(model):
    model.graph.initializers["w"].const_value = ir.tensor(np.ones(5, np.float32))


def wrong_dtype(model):
    model.graph.initializers["w"].const_value = ir.tensor(np.ones(4, np.float64))


def dangling_output(model):
    model.graph.outputs[0] = ir.Value(name="y", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([1]))


def unknown_operator(model):
    model.graph[2].op_type = "Expp"


def broken_subgraph(model):
    branch = model.graph[1].attributes["then_branch"].as_graph()
    branch[0].replace_input_with(0, ir.Value(name="nowhere"))


@pytest.mark.parametrize(
    "damage",
    [
        use_before_definition,
        duplicate_value_name,
        duplicate_node_name,
        unknown_domain,
        no_data,
        wrong_shape,
        wrong_dtype,
        dangling_output,
        unknown_operator,
        broken_subgraph,
    ],
)
def test_each_kind_of_damage_is_found(model, damage):
    damage(model)
    assert check_structure(model)
