"""What the target says it computes in integers of 8 bits is what onnxruntime does."""

from __future__ import annotations

import pytest
from graphopt_targets.cpu import CpuTarget
from graphopt_targets.cpu._integers import _CASES
from graphopt_targets.cpu._loaded import loaded_nodes
from onnx import parser

from graphopt.ir import infer_types, to_proto
from graphopt.pipeline import Context
from graphopt.plugins import run_recipe
from graphopt.recipes import Budget, Recipe, Step
from tests.passes._vision import BLOCKS
from tests.passes.test_quantize_static import data_of

CAPABILITIES = CpuTarget().capabilities()


@pytest.mark.parametrize("op_type", _CASES)
def test_every_operator_of_the_table_has_integers_here(op_type: str) -> None:
    assert CAPABILITIES.computes_in_integers(op_type)


@pytest.mark.parametrize("op_type", ["HardSigmoid", "ConvTranspose", "LSTM", "NoSuchOperator"])
def test_others_have_none(op_type: str) -> None:
    assert not CAPABILITIES.computes_in_integers(op_type)


def test_what_is_loaded_is_told_apart() -> None:
    """A convolution in floats, in blocks of channels, and one in integers, with what is around them."""
    model = BLOCKS["residual"].model()
    infer_types(model)
    known = {name for node in model.graph for name in (node.name, node.outputs[0].name)}
    first = loaded_nodes(to_proto(model).SerializeToString())
    assert {node.kind for node in first} == {"floats"}
    assert {node.name for node in first if node.operator == "Conv"} <= known

    context = Context(model, target=CpuTarget(), calibration=data_of(model))
    run_recipe(model, Recipe("test", "", Budget(), (Step("quantize-static", {"exclude": "c/*"}),)), context)
    found = {node.operator: node.kind for node in loaded_nodes(to_proto(model).SerializeToString())}
    assert found["QLinearConv"] == found["QGemm"] == found["Flatten"] == "integers"
    assert found["QuantizeLinear"] == "rounds"
    assert found["DequantizeLinear"] == "widens"
    assert found["Conv"] == "floats"


def test_sizes_are_nothing_of_either() -> None:
    proto = parser.parse_model(
        """<ir_version: 10, opset_import: ["" : 23]>
        g (uint8[N,4] x, float[N,4] z) => (float[M,4] y, int64[2] n)
        { n = Shape(x)  c = Cast<to = 1>(x)  y = Concat<axis = 0>(c, z) }"""
    )
    found = {node.operator: node.kind for node in loaded_nodes(proto.SerializeToString())}
    assert found == {"Shape": "other", "Cast": "floats", "Concat": "floats"}
