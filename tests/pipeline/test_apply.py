"""Edits: applied as described, undone without a trace."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from graphopt.ir import graph_hash, parse
from graphopt.pipeline import Edit, apply
from graphopt.pipeline._apply import EditError

MODEL = """
<ir_version: 10, opset_import: ["" : 23]>
g (float[B,4] x) => (float[B,4] y, float[B,4] z)
<float[4] w = {1.0, 2.0, 3.0, 4.0}>
{
  a = Mul(x, w)
  b = Relu(a)
  y = Neg(b)
  z = Exp(a)
}
"""


def node(model: ir.Model, op_type: str) -> ir.Node:
    return next(n for n in model.graph if n.op_type == op_type)


def replace_relu(model: ir.Model) -> Edit:
    relu = node(model, "Relu")
    tape = ir.tape.Tape()
    new = tape.op("Clip", [relu.inputs[0]])
    return Edit("relu", remove=[relu], insert=tape.nodes, replace={relu.outputs[0]: new})


def test_apply_redirects_uses_and_keeps_the_name():
    model = parse(MODEL)
    apply(model.graph, replace_relu(model), "t").commit()
    assert [n.op_type for n in model.graph] == ["Mul", "Clip", "Neg", "Exp"]
    assert node(model, "Neg").inputs[0].name == "b"
    assert node(model, "Clip").metadata_props["graphopt.provenance"] == "t"


def test_a_node_that_another_opset_spells_the_same_stays_that_node():
    model = parse(MODEL)
    relu = node(model, "Relu")
    relu.name, relu.metadata_props["graphopt.provenance"] = "relu", "earlier"
    same = ir.Node("", "Relu", relu.inputs, name="relu")
    other = ir.Node("", "Identity", same.outputs, name="new")
    replace = {relu.outputs[0]: other.outputs[0]}
    apply(
        model.graph, Edit("opset", remove=[relu], insert=[same, other], replace=replace, opset=22), "t"
    ).commit()
    assert dict(same.metadata_props) == {"graphopt.provenance": "earlier"}
    assert dict(other.metadata_props) == {"graphopt.provenance": "t"}


def test_undo_restores_the_graph():
    model = parse(MODEL)
    before, order = graph_hash(model), [n.name for n in model.graph]
    applied = apply(model.graph, replace_relu(model), "t")
    assert graph_hash(model) != before
    applied.undo()
    assert graph_hash(model) == before
    assert [n.name for n in model.graph] == order
    assert node(model, "Neg").inputs[0] is node(model, "Relu").outputs[0]


def test_output_keeps_its_name_when_an_earlier_value_takes_it_over():
    model = parse(MODEL)
    neg = node(model, "Neg")
    apply(model.graph, Edit("drop", remove=[neg], replace={neg.outputs[0]: neg.inputs[0]}), "t").commit()
    assert model.graph.outputs[0].name == "y"
    assert model.graph.outputs[0].producer().op_type == "Relu"


def test_an_edit_that_leaves_a_use_dangling_is_refused_and_undone():
    model = parse(MODEL)
    before = graph_hash(model)
    with pytest.raises(EditError, match="still used"):
        apply(model.graph, Edit("bad", remove=[node(model, "Mul")]), "t")
    assert graph_hash(model) == before


def test_initializers_only_the_removed_used_go_and_come_back():
    model = parse(MODEL)
    mul = node(model, "Mul")
    applied = apply(model.graph, Edit("x", remove=[mul], replace={mul.outputs[0]: mul.inputs[0]}), "t")
    assert "w" not in model.graph.initializers
    applied.undo()
    assert "w" in model.graph.initializers


def test_two_outputs_cannot_become_one_value():
    model = parse(MODEL)
    exp, neg = node(model, "Exp"), node(model, "Neg")
    with pytest.raises(EditError, match="same value as output"):
        apply(model.graph, Edit("x", remove=[exp], replace={exp.outputs[0]: neg.outputs[0]}), "t")


def test_edit_identity_is_stable_and_names_the_step():
    one, two = (replace_relu(parse(MODEL)).identity("p#2") for _ in range(2))
    assert one == two
    assert one.startswith("p#2:")


BRANCHES = """
<ir_version: 10, opset_import: ["" : 23]>
g (bool c, float[4] x) => (float[4] z)
{
  a = Neg(x)
  z = If(c) <then_branch = t () => (float[4] y) { y = Relu(a) },
             else_branch = e () => (float[4] w) { w = Exp(a) }>
}
"""


def test_what_a_removed_branch_uses_may_go_with_it():
    model = parse(BRANCHES)
    before, (neg, branch) = graph_hash(model), list(model.graph)
    tape = ir.tape.Tape()
    new = tape.op("Abs", [neg.inputs[0]])
    whole = Edit("all", remove=[neg, branch], insert=tape.nodes, replace={branch.outputs[0]: new})
    applied = apply(model.graph, whole, "t")
    assert [n.op_type for n in model.graph if n.domain == ""] == ["Abs"]
    applied.undo()
    assert graph_hash(model) == before
    with pytest.raises(EditError, match="still used"):
        apply(model.graph, Edit("a part", remove=[neg]), "t")
