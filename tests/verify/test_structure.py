"""The structure check: silent on good graphs, and it names each kind of damage."""

from __future__ import annotations

import os
from unittest import mock

import numpy as np
import onnx_ir as ir
import pytest

import graphopt.ir._save as saving
from graphopt.ir import Cast, LazyTensor, Unbound, check_structure, load_model, parse, save_model

SOURCE = """
<ir_version: 10, opset_import: ["" : 23, "com.microsoft" : 1, "own" : 1]>
g (float[B,4] x, bool c, float[4] d) => (float[B,4] y)
<float[4] w = {1.0, 2.0, 3.0, 4.0}, float[4] d = {0.0, 0.0, 0.0, 0.0}>
{
  a = Mul(x, w)
  b = If(c) <then_branch = t () => (float[B,4] p)
                 <float[4] v = {1.0, 1.0, 1.0, 1.0}> { m = Add(a, v) p = Relu(m) },
             else_branch = e () => (float[B,4] q) { q = Neg(a) }>
  g = com.microsoft.QuickGelu<alpha = 1.0>(b)
  h = own.twice(g)
  y = Exp(h)
}
<domain: "own", opset_import: ["" : 23]>
twice (u) => (v) { v = Add(u, u) }
"""


@pytest.fixture
def model() -> ir.Model:
    return parse(SOURCE)


def test_a_good_graph_has_no_problems(model):
    assert check_structure(model) == []


def test_checking_changes_nothing(model):
    tensor = model.graph.initializers["w"].const_value
    before = ir.to_proto(model)
    check_structure(model)
    assert ir.to_proto(model) == before
    assert model.graph.initializers["w"].const_value is tensor


def node(model: ir.Model, output: str) -> ir.Node:
    graphs = (model.graph, *model.graph.subgraphs())
    return next(n for graph in graphs for n in graph if any(v.name == output for v in n.outputs))


def then_branch(model: ir.Model) -> ir.Graph:
    return node(model, "b").attributes["then_branch"].as_graph()


def use_before_definition(model):
    node(model, "a").append(ir.Node("", "Neg", [model.graph.outputs[0]], name="early"))


def use_of_nothing(model):
    node(model, "y").replace_input_with(0, ir.Value(name="nowhere"))


def use_of_a_removed_node(model):
    orphan = ir.Node("", "Neg", [model.graph.inputs[0]], name="gone")
    orphan.outputs[0].name = "lost"
    node(model, "y").replace_input_with(0, orphan.outputs[0])


def use_out_of_a_branch(model):
    node(model, "y").replace_input_with(0, node(model, "m").outputs[0])


def use_of_another_branch(model):
    node(model, "q").replace_input_with(0, node(model, "m").outputs[0])


def use_of_nothing_in_a_branch(model):
    node(model, "m").replace_input_with(0, ir.Value(name="nowhere"))


def use_of_nothing_in_a_function(model):
    (function,) = model.functions.values()
    function[0].replace_input_with(0, ir.Value(name="nowhere"))


def value_named_like_an_input(model):
    node(model, "a").outputs[0].name = "x"


def value_named_like_a_weight(model):
    node(model, "a").outputs[0].name = "w"


def two_values_of_one_name(model):
    node(model, "h").outputs[0].name = "a"


def inner_value_named_like_an_outer_one(model):
    node(model, "m").outputs[0].name = "a"


def value_without_a_name(model):
    model.graph.inputs[0].name = None


def two_nodes_of_one_name(model):
    node(model, "a").name = node(model, "y").name


def unknown_domain(model):
    node(model, "g").domain = "nobody.knows"


def unknown_domain_in_a_branch(model):
    node(model, "q").domain = "nobody.knows"


def unknown_domain_in_a_function(model):
    (function,) = model.functions.values()
    function[0].domain = "nobody.knows"


def no_default_domain(model):
    del model.opset_imports[""]


def impossible_opset(model):
    model.opset_imports[""] = 999


def no_tensor(model):
    model.graph.initializers["w"].const_value = None


def no_data(model):
    unbound = Cast(Unbound("w", ir.DataType.FLOAT16, (4,)), ir.DataType.FLOAT)
    model.graph.initializers["w"].const_value = LazyTensor(unbound)


def no_data_in_a_branch(model):
    then_branch(model).initializers["v"].const_value = LazyTensor(Unbound("v", ir.DataType.FLOAT, (4,)))


def wrong_shape(model):
    model.graph.initializers["w"].const_value = ir.tensor(np.ones(5, np.float32))


def wrong_dtype(model):
    model.graph.initializers["w"].const_value = ir.tensor(np.ones(4, np.float64))


def foreign_output(model):
    model.graph.outputs[0] = ir.Value(name="y", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([1]))


def foreign_output_of_a_branch(model):
    then_branch(model).outputs[0] = ir.Value(name="r", type=ir.TensorType(ir.DataType.FLOAT))


def no_outputs(model):
    model.graph.outputs.clear()


def unknown_operator(model):
    node(model, "a").op_type = "Mull"


def unknown_operator_in_a_branch(model):
    node(model, "q").op_type = "Negg"


def unknown_attribute(model):
    node(model, "a").attributes["axis"] = ir.AttrInt64("axis", 1)


def missing_input(model):
    node(model, "a").resize_inputs(1)


DAMAGES = {
    use_before_definition: "'early' (Neg) uses 'y', which is made later",
    use_of_nothing: "uses 'nowhere', which is made nowhere",
    use_of_a_removed_node: "uses 'lost', which is made later or out of its sight",
    use_out_of_a_branch: "uses 'm', which is made later or out of its sight",
    use_of_another_branch: "uses 'm', which is made later or out of its sight",
    use_of_nothing_in_a_branch: "uses 'nowhere'",
    use_of_nothing_in_a_function: "uses 'nowhere'",
    value_named_like_an_input: "two values are called 'x'",
    value_named_like_a_weight: "two values are called 'w'",
    two_values_of_one_name: "two values are called 'a'",
    inner_value_named_like_an_outer_one: "two values are called 'a'",
    value_without_a_name: "an input has no name",
    two_nodes_of_one_name: "two nodes are called 'y/Exp'",
    unknown_domain: "domain 'nobody.knows', which is not imported",
    unknown_domain_in_a_branch: "domain 'nobody.knows', which is not imported",
    unknown_domain_in_a_function: "domain 'nobody.knows', which is not imported",
    no_default_domain: "the default domain is not imported",
    impossible_opset: "opset 999 does not exist",
    no_tensor: "initializer 'w' has no tensor",
    no_data: "initializer 'w' has no data",
    no_data_in_a_branch: "initializer 'v' has no data",
    wrong_shape: "initializer 'w' is declared [4], its data has shape [5]",
    wrong_dtype: "initializer 'w' is declared FLOAT, its data is DOUBLE",
    foreign_output: "output 'y' is not made by the graph",
    foreign_output_of_a_branch: "output 'r' is not made by the graph",
    no_outputs: "has no outputs",
    unknown_operator: "onnx.checker: No Op registered for Mull",
    unknown_operator_in_a_branch: "onnx.checker:",
    unknown_attribute: "onnx.checker: Unrecognized attribute: axis",
    missing_input: "onnx.checker:",
}


@pytest.mark.parametrize(("damage", "words"), DAMAGES.items(), ids=[damage.__name__ for damage in DAMAGES])
def test_each_kind_of_damage_is_named(model, damage, words):
    damage(model)
    problems = check_structure(model)
    assert any(words in problem for problem in problems), problems


def external(tmp_path) -> ir.Model:
    model = parse(
        """<ir_version: 10, opset_import: ["" : 23]> g (float[B,64] x) => (float[B,64] y)
        <float[64,64] w = ["location": "absent"]> { y = MatMul(x, w) }"""
    )
    model.graph.initializers["w"].const_value = ir.tensor(np.ones((64, 64), np.float32), name="w")
    with mock.patch.object(saving, "_DATA_FROM", 0):
        save_model(model, tmp_path / "m.onnx")
    return load_model(tmp_path / "m.onnx")


def test_external_data_that_is_there_is_no_problem(tmp_path):
    assert check_structure(external(tmp_path)) == []


@pytest.mark.parametrize("size", [None, 100])
def test_external_data_that_went_away_is_a_problem(tmp_path, size):
    model = external(tmp_path)
    if size is None:
        (tmp_path / "m.onnx.data").unlink()
    else:
        os.truncate(tmp_path / "m.onnx.data", size)
    assert check_structure(model) == ["initializer 'w' needs bytes of m.onnx.data that are not there"]
