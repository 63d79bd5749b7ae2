"""Opening model files: what is refused, with which words, and what is let in."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from graphopt.errors import BadInput
from graphopt.ir import LazyTensor, has_data, lazy, load_model


def edited(path: Path, change: Callable[[onnx.ModelProto], object]) -> None:
    proto = onnx.load_model(path, load_external_data=False)
    change(proto)
    path.write_bytes(proto.SerializeToString())


def set_external(proto: onnx.ModelProto, **wanted: str) -> None:
    (tensor,) = (t for t in proto.graph.initializer if t.name == "w")
    kept = {entry.key: entry.value for entry in tensor.external_data} | wanted
    del tensor.external_data[:]
    for key, value in kept.items():
        tensor.external_data.add(key=key, value=value)


@pytest.mark.parametrize(
    ("external", "message"),
    [
        ({"location": "../model.onnx.data"}, "outside the model's folder"),
        ({"location": "sub/../../model.onnx.data"}, "outside the model's folder"),
        ({"location": "..\\model.onnx.data"}, "outside the model's folder"),
        ({"location": "C:\\model.onnx.data"}, "outside the model's folder"),
        ({"location": "/etc/passwd"}, "outside the model's folder"),
        ({"location": ""}, "outside the model's folder"),
        ({"location": "."}, "missing or not a file"),
        ({"location": "a\0b"}, "missing"),
        ({"location": "gone.data"}, "'gone.data', which is missing"),
        ({"offset": "4096"}, "truncated"),
        ({"offset": str(1 << 62)}, "truncated"),
        ({"offset": "-4"}, "external data at offset '-4'"),
        ({"offset": "x"}, "external data at offset 'x'"),
        ({"length": "12"}, "declares 12 bytes"),
        ({"length": "-1"}, "external data at length '-1'"),
    ],
)
def test_bad_external_data_is_refused(saved, external, message):
    edited(saved, lambda proto: set_external(proto, **external))
    with pytest.raises(BadInput, match=message) as refusal:
        load_model(saved)
    assert saved.name in refusal.value.message


def test_short_external_data_is_refused(saved):
    os.truncate(saved.with_name("model.onnx.data"), 1000)
    with pytest.raises(BadInput, match=r"bytes 0\.\.16384 of 'model\.onnx\.data', which has 1000"):
        load_model(saved)


def test_external_data_in_an_attribute_is_bound_and_checked_alike(saved, weight):
    def move(proto: onnx.ModelProto) -> None:
        (tensor,) = (t for t in proto.graph.initializer if t.name == "w")
        proto.graph.node.insert(0, helper.make_node("Constant", [], ["w"], value=tensor, name="c"))
        proto.graph.initializer.remove(tensor)

    edited(saved, move)
    tensor = load_model(saved).graph[0].attributes["value"].as_tensor()
    assert isinstance(tensor, LazyTensor)
    np.testing.assert_array_equal(tensor.numpy(), weight)

    def point_out(proto: onnx.ModelProto) -> None:
        for external in proto.graph.node[0].attribute[0].t.external_data:
            external.value = "../secret" if external.key == "location" else external.value

    edited(saved, point_out)
    with pytest.raises(BadInput, match="outside the model's folder"):
        load_model(saved)


@pytest.mark.parametrize("through", ["file", "folder"])
def test_a_link_out_of_the_folder_is_refused(saved, tmp_path_factory, through):
    data = saved.with_name("model.onnx.data")
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    data.rename(elsewhere / "data")
    if through == "file":
        data.symlink_to(elsewhere / "data")
    else:
        saved.with_name("sub").symlink_to(elsewhere)
        edited(saved, lambda proto: set_external(proto, location="sub/data"))
    with pytest.raises(BadInput, match="is a link to"):
        load_model(saved)


def test_a_link_within_the_folder_is_followed(saved, weight):
    data = saved.with_name("model.onnx.data")
    data.rename(saved.with_name("real"))
    data.symlink_to("real")
    np.testing.assert_array_equal(load_model(saved).graph.initializers["w"].const_value.numpy(), weight)


def test_links_in_a_circle_are_refused(saved):
    data = saved.with_name("model.onnx.data")
    data.unlink()
    data.symlink_to(data.name)
    with pytest.raises(BadInput, match="cannot be resolved"):
        load_model(saved)


def test_what_is_no_file_is_not_opened(saved, monkeypatch):
    data = saved.with_name("model.onnx.data")
    data.unlink()
    monkeypatch.chdir(data.parent)
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(data.name)
        with pytest.raises(BadInput, match="not a file"):
            load_model(saved)


@pytest.fixture
def hub(saved, tmp_path) -> Path:
    """A snapshot folder of a Hub cache repository, its files links to blobs."""
    repository = tmp_path / "cache" / "models--some--model"
    snapshot, blobs = repository / "snapshots" / "abc" / "onnx", repository / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for name in ("model.onnx", "model.onnx.data"):
        saved.with_name(name).rename(blobs / name)
        (snapshot / name).symlink_to(Path("../../../blobs") / name)
    return snapshot


def test_a_link_within_a_hub_cache_repository_is_followed(hub, weight):
    loaded = load_model(hub / "model.onnx")
    np.testing.assert_array_equal(loaded.graph.initializers["w"].const_value.numpy(), weight)


@pytest.mark.parametrize("repository", ["models--other--model", "models--some--model-2", "elsewhere"])
def test_a_link_into_another_repository_is_refused(hub, repository):
    other = hub.parents[3] / repository / "blobs"
    other.mkdir(parents=True)
    (hub / "model.onnx.data").resolve().rename(other / "data")
    (hub / "model.onnx.data").unlink()
    (hub / "model.onnx.data").symlink_to(other / "data")
    with pytest.raises(BadInput, match="Hub cache repository"):
        load_model(hub / "model.onnx")


def test_a_folder_that_only_looks_like_a_repository_opens_nothing(tmp_path, saved):
    """`models--x/model.onnx` outside `snapshots` may not follow links to its parent's other files."""
    folder = tmp_path / "models--x" / "sub"
    folder.mkdir(parents=True)
    saved.with_name("model.onnx.data").rename(tmp_path / "models--x" / "data")
    saved.rename(folder / "model.onnx")
    (folder / "model.onnx.data").symlink_to("../data")
    with pytest.raises(BadInput, match="is a link to"):
        load_model(folder / "model.onnx")


@pytest.mark.parametrize(
    "content",
    [b"", b"not a protobuf at all", b"\x08\x0a\x12", b"\x00" * 100, b"<html></html>", b"\x80\x04" * 40],
)
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "x.onnx"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=r"x\.onnx"):
        load_model(path)


def test_a_cut_protobuf_is_refused(saved):
    whole = saved.read_bytes()
    for keep in range(0, len(whole), 7):
        saved.write_bytes(whole[:keep])
        with pytest.raises(BadInput):
            load_model(saved)


@pytest.mark.parametrize("name", ["gone.onnx", "."])
def test_what_is_no_file_is_refused(tmp_path, name):
    with pytest.raises(BadInput, match="does not exist or is not a file"):
        load_model(tmp_path / name)


def test_the_suffix_does_not_choose_a_parser(saved, weight):
    saved.rename(saved.with_name("model.json"))
    loaded = load_model(saved.with_name("model.json"))
    np.testing.assert_array_equal(loaded.graph.initializers["w"].const_value.numpy(), weight)


def inline(dims: list[int], data: bytes) -> TensorProto:
    return TensorProto(name="w", data_type=TensorProto.FLOAT, dims=dims, raw_data=data)


def replace_weight(tensor: TensorProto) -> Callable[[onnx.ModelProto], None]:
    def change(proto: onnx.ModelProto) -> None:
        (old,) = (t for t in proto.graph.initializer if t.name == "w")
        old.CopyFrom(tensor)

    return change


def opset(version: int) -> Callable[[onnx.ModelProto], None]:
    return lambda proto: setattr(proto.opset_import[0], "version", version)


def list_of_tensors(proto: onnx.ModelProto) -> None:
    attribute = onnx.AttributeProto(name="ts", type=onnx.AttributeProto.TENSORS)
    tensor = attribute.tensors.add(name="t", data_type=TensorProto.FLOAT, dims=[1])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="model.onnx.data")
    proto.graph.node[0].attribute.append(attribute)


def add(*nodes: onnx.NodeProto) -> Callable[[onnx.ModelProto], None]:
    return lambda proto: proto.graph.node.extend(nodes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (replace_weight(inline([64, 64], bytes(12))), r"w.*\(16384 bytes required\)"),
        (replace_weight(inline([64, 64], bytes(64 * 64 * 4 + 4))), "does not hold the 16384 bytes"),
        (replace_weight(inline([-64, -64], bytes(64 * 64 * 4))), r"impossible shape \[-64, -64\]"),
        (
            replace_weight(TensorProto(name="w", data_type=99, dims=[1], raw_data=b"0")),
            "not a valid ONNX model",
        ),
        (opset(0), "opset 0, which does not exist"),
        (opset(999), "opset 999; the installed onnx knows"),
        (lambda proto: proto.ClearField("opset_import"), "imports no opset"),
        (list_of_tensors, "external data in a list of tensors, attribute 'ts'"),
        (add(helper.make_node("Relu", ["x"], ["y"])), "not a valid ONNX model"),
        (add(helper.make_node("Relu", ["nowhere"], ["z"])), "not a valid ONNX model"),
        (add(helper.make_node("Nonsense", ["x"], ["z"])), "Nonsense"),
        (add(helper.make_node("Foo", ["x"], ["z"], domain="own")), "No opset import for domain 'own'"),
        (lambda proto: proto.graph.ClearField("output"), "has no outputs"),
    ],
)
def test_damaged_graphs_are_refused(saved, change, message):
    edited(saved, change)
    with pytest.raises(BadInput, match=message) as refusal:
        load_model(saved)
    assert saved.name in refusal.value.message


def test_operators_of_unknown_domains_are_let_in(saved):
    def change(proto: onnx.ModelProto) -> None:
        proto.graph.node.append(helper.make_node("Foo", ["x"], ["z"], domain="own"))
        proto.opset_import.append(helper.make_opsetid("own", 1))

    edited(saved, change)
    assert load_model(saved).graph[-1].op_type == "Foo"


def test_old_models_that_list_weights_as_inputs_are_let_in(saved, weight):
    def change(proto: onnx.ModelProto) -> None:
        proto.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [64, 64]))

    edited(saved, change)
    loaded = load_model(saved)
    assert [value.name for value in loaded.graph.inputs] == ["x", "w"]
    np.testing.assert_array_equal(loaded.graph.initializers["w"].const_value.numpy(), weight)


def test_weights_bound_by_onnx_ir_itself_are_read_the_same(saved, weight):
    tensor = ir.load(saved).graph.initializers["w"].const_value
    assert has_data(tensor)
    np.testing.assert_array_equal(lazy(tensor).read((slice(3, 5), slice(0, 9))), weight[3:5, :9])


def test_weights_among_the_inputs_are_constants_before_ir_version_4(saved, weight):
    def change(proto: onnx.ModelProto) -> None:
        proto.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [64, 64]))
        proto.ir_version = 3

    edited(saved, change)
    loaded = load_model(saved)
    assert loaded.ir_version == 4
    assert [value.name for value in loaded.graph.inputs] == ["x"]
    np.testing.assert_array_equal(loaded.graph.initializers["w"].const_value.numpy(), weight)


def test_a_graph_of_other_domains_alone_need_not_import_the_default_one(tmp_path):
    node = helper.make_node("Binarizer", ["x"], ["y"], domain="ai.onnx.ml", threshold=1.0)
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N"]) for name in "xy")
    graph = helper.make_graph([node], "g", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("ai.onnx.ml", 1)], ir_version=8)
    onnx.save(model, tmp_path / "model.onnx")
    assert load_model(tmp_path / "model.onnx").opset_imports == {"ai.onnx.ml": 1, "": 13}
