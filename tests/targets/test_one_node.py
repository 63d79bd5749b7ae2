"""Graphs that runtimes are probed with."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
from graphopt_targets._one_node import OneNode, _cast, _first_alone, _quantized, _random, one_node_graphs
from onnx import TensorProto, helper


def outputs(case: OneNode) -> dict[str, np.ndarray]:
    session = ort.InferenceSession(case.model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(case.feeds)), strict=True))


def test_an_operator_of_int8_is_tried_around_a_product() -> None:
    for version in (13, 21, 23):
        case = _quantized("DequantizeLinear", version)
        assert outputs(case)["y"].shape == (16, 32)
        kinds = [node.op_type for node in case.model.graph.node]
        assert kinds.count("DequantizeLinear") == 3
    found = outputs(_cast())
    np.testing.assert_array_equal(found["y"], _cast().expected["y"])


def test_a_layer_is_tried_without_the_outputs_that_nets_do_not_read() -> None:
    node = helper.make_node("LayerNormalization", ["x", "w"], ["y", "mean", "deviation"])
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, (2, 3)) for n in ("x", "y")]
    weight = helper.make_tensor_value_info("w", TensorProto.FLOAT, (3,))
    graph = helper.make_graph([node], "g", [values[0], weight], [values[1]])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    feeds = {"x": _random(2, 3), "w": _random(3)}
    case = _first_alone(
        OneNode("", "LayerNormalization", 17, model, feeds, {"y": feeds["x"], "mean": feeds["w"]})
    )
    assert list(case.model.graph.node[0].output) == ["y"]
    assert set(case.expected) == {"y"}
    assert outputs(case)["y"].shape == (2, 3)


def test_there_are_some_of_every_kind() -> None:
    found = {(case.domain, case.operator) for case in one_node_graphs()}
    assert {
        ("", "Cast"),
        ("", "QuantizeLinear"),
        ("", "LayerNormalization"),
        ("com.microsoft", "Gelu"),
    } <= found
