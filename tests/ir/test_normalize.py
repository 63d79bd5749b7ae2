"""What is spelled out when a file is read: sparse weights, outputs without a shape or type, maps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from graphopt.errors import BadInput
from graphopt.interface import Interface
from graphopt.ir import check_structure, holds_map, load_model, save_model
from graphopt.ir._normalize import _LARGEST

FLOAT = TensorProto.FLOAT


def product(output: onnx.ValueInfoProto | None = None) -> onnx.ModelProto:
    """y = x w, without w."""
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", FLOAT, ["N", 3])],
        [output or helper.make_tensor_value_info("y", FLOAT, ["N", 4])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def sparse(indices: object, dims: tuple[int, ...] = (3, 4)) -> onnx.SparseTensorProto:
    values = numpy_helper.from_array(np.asarray([1, 2, 3], np.float32), "w")
    places = numpy_helper.from_array(np.asarray(indices, np.int64), "places")
    return helper.make_sparse_tensor(values, places, dims)


DENSE = [[1, 0, 0, 0], [0, 2, 0, 0], [0, 0, 0, 3]]


@pytest.mark.parametrize("indices", [[0, 5, 11], [[0, 0], [1, 1], [2, 3]]], ids=["linear", "by axis"])
@pytest.mark.parametrize("held", ["initializer", "constant"])
def test_sparse_weights_become_dense(tmp_path: Path, indices: object, held: str) -> None:
    proto = product()
    if held == "initializer":
        proto.graph.sparse_initializer.append(sparse(indices))
    else:
        proto.graph.node.insert(0, helper.make_node("Constant", [], ["w"], sparse_value=sparse(indices)))
    onnx.save(proto, tmp_path / "m.onnx")
    graph = load_model(tmp_path / "m.onnx").graph

    tensor = (
        graph.initializers["w"].const_value if held == "initializer" else graph[0].attributes["value"].value
    )
    assert tensor is not None
    assert tensor.numpy().tolist() == DENSE


@pytest.mark.parametrize(
    ("weight", "limit", "message"),
    [
        (sparse([0, 5, 12]), _LARGEST, "sparse weight 'w' is damaged"),
        (sparse([5, 0, 11]), _LARGEST, "sparse weight 'w' is damaged"),
        (sparse([0, 5, 11]), 40, "sparse weight 'w' takes 48 bytes"),
    ],
)
def test_sparse_weights_that_cannot_be_dense_are_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    weight: onnx.SparseTensorProto,
    limit: int,
    message: str,
) -> None:
    monkeypatch.setattr("graphopt.ir._normalize._LARGEST", limit)
    proto = product()
    proto.graph.sparse_initializer.append(weight)
    onnx.save(proto, tmp_path / "m.onnx")
    with pytest.raises(BadInput, match=message):
        load_model(tmp_path / "m.onnx")


def without(what: str) -> onnx.ValueInfoProto:
    return (
        onnx.ValueInfoProto(name="y") if what == "type" else helper.make_tensor_value_info("y", FLOAT, None)
    )


@pytest.mark.parametrize("what", ["type", "shape"])
def test_outputs_declare_what_can_be_inferred(tmp_path: Path, what: str) -> None:
    proto = product(without(what))
    proto.graph.initializer.append(numpy_helper.from_array(np.zeros((3, 4), np.float32), "w"))
    onnx.save(proto, tmp_path / "m.onnx")
    model = load_model(tmp_path / "m.onnx")

    (output,) = Interface.of(model).outputs
    assert (output.dtype, output.dims) == ("float32", ("N", 4))
    assert check_structure(model) == []


def test_an_output_may_be_of_any_rank(tmp_path: Path) -> None:
    proto = product(without("shape"))
    proto.graph.node[0].op_type = "Reshape"
    proto.graph.input.append(helper.make_tensor_value_info("w", TensorProto.INT64, ["rank"]))
    onnx.save(proto, tmp_path / "m.onnx")
    model = load_model(tmp_path / "m.onnx")

    assert model.graph.outputs[0].shape is None
    assert Interface.of(model).outputs[0].dims == ()
    assert check_structure(model) == []


def test_an_output_whose_type_nobody_knows_is_refused_by_name(tmp_path: Path) -> None:
    proto = product(without("type"))
    proto.graph.node[0].domain = "own"
    proto.opset_import.append(helper.make_opsetid("own", 1))
    proto.graph.input.append(helper.make_tensor_value_info("w", FLOAT, [3]))
    onnx.save(proto, tmp_path / "m.onnx")
    with pytest.raises(BadInput, match="output 'y' has no type, and none can be inferred"):
        load_model(tmp_path / "m.onnx")


@pytest.mark.parametrize("what", ["type", "shape"])
def test_inputs_have_to_be_declared(tmp_path: Path, what: str) -> None:
    proto = product()
    proto.graph.input[0].CopyFrom(without(what))
    proto.graph.input[0].name = "x"
    onnx.save(proto, tmp_path / "m.onnx")
    with pytest.raises(BadInput, match=f"input 'x' is declared without a {what}") as refusal:
        load_model(tmp_path / "m.onnx")
    assert "damaged" not in str(refusal.value)


def test_maps_are_read_and_written_as_they_are(tmp_path: Path) -> None:
    inner = helper.make_map_type_proto(TensorProto.STRING, helper.make_tensor_type_proto(FLOAT, []))
    scores = helper.make_value_info("y", helper.make_sequence_type_proto(inner))
    node = helper.make_node("ZipMap", ["x"], ["y"], domain="ai.onnx.ml", classlabels_strings=["a", "b"])
    graph = helper.make_graph([node], "g", [helper.make_tensor_value_info("x", FLOAT, ["N", 2])], [scores])
    imports = [helper.make_opsetid("", 13), helper.make_opsetid("ai.onnx.ml", 1)]
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=8), tmp_path / "m.onnx")
    model = load_model(tmp_path / "m.onnx")
    save_model(model, tmp_path / "again.onnx")

    assert holds_map(model.graph.outputs[0].type)
    assert not holds_map(model.graph.inputs[0].type)
    assert Interface.of(model).outputs[0].dtype == "map"
    assert check_structure(model) == []
    assert onnx.load(tmp_path / "again.onnx").graph.output[0] == scores


def test_a_domain_that_is_imported_again_at_its_version_is_imported_once(tmp_path: Path) -> None:
    proto = product()
    proto.graph.input.append(helper.make_tensor_value_info("w", FLOAT, [3, 4]))
    other = helper.make_model(
        helper.make_graph(
            [helper.make_node("Relu", ["y"], ["z"])],
            "behind",
            [helper.make_tensor_value_info("y", FLOAT, ["N", 4])],
            [helper.make_tensor_value_info("z", FLOAT, ["N", 4])],
        ),
        opset_imports=[helper.make_opsetid("", 13)],
        ir_version=8,
    )
    merged = onnx.compose.merge_models(proto, other, io_map=[("y", "y")])
    assert len(merged.opset_import) == 2
    onnx.save(merged, tmp_path / "m.onnx")
    assert dict(load_model(tmp_path / "m.onnx").opset_imports) == {"": 13}

    merged.opset_import[1].version = 14
    onnx.save(merged, tmp_path / "m.onnx")
    with pytest.raises(BadInput, match=r"imports domain 'ai\.onnx' twice"):
        load_model(tmp_path / "m.onnx")


NORM = """
<ir_version: 10, opset_import: ["" : 21]>
g (float[B,4] x) => (float[B,4] y)
<float[4] w = {1, 2, 3, 4}>
{ y = SimplifiedLayerNormalization<axis = -1, epsilon = 0.001>(x, w) }
"""


def test_a_norm_of_onnxruntime_in_the_domain_of_onnx_becomes_that_of_onnx(tmp_path: Path) -> None:
    """onnxruntime-genai's builder writes it, and the two give the same."""
    source = onnx.parser.parse_model(NORM)
    onnx.save(source, tmp_path / "model.onnx")

    model = load_model(tmp_path / "model.onnx")

    assert [node.op_type for node in model.graph] == ["RMSNormalization"]
    assert model.opset_imports[""] == 23
    save_model(model, tmp_path / "named.onnx")
    x = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    results = [
        ort.InferenceSession(tmp_path / name, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
        for name in ("model.onnx", "named.onnx")
    ]
    np.testing.assert_allclose(results[1], results[0], rtol=1e-6)


def test_such_a_norm_stays_where_its_second_result_is_asked_for(tmp_path: Path) -> None:
    source = onnx.parser.parse_model(
        NORM.replace("{ y =", "{ y, spread =").replace("float[B,4] y)", "float[B,4] y, float[B,1] spread)")
    )
    onnx.save(source, tmp_path / "model.onnx")

    with pytest.raises(BadInput, match="SimplifiedLayerNormalization"):
        load_model(tmp_path / "model.onnx")
