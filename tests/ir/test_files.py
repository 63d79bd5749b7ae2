"""Opening and writing model files: what is refused, and what survives a round trip."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from safetensors.numpy import save_file

from graphopt.errors import BadInput
from graphopt.ir import LazyTensor, SafetensorsIndex, graph_hash, load_model, parse, save_model

MODEL = """
<ir_version: 10, opset_import: ["" : 23]>
g (float[B,64] x) => (float[B,64] y)
{
  y = MatMul(x, w)
}
"""


def model(weight: np.ndarray) -> ir.Model:
    made = parse(MODEL.replace("(float[B,64] y)", "(float[B,64] y) <float w0 = {0.0}>"))
    value = ir.Value(name="w", shape=ir.Shape(weight.shape), type=ir.TensorType(ir.DataType.FLOAT))
    value.const_value = ir.tensor(weight, name="w")
    made.graph.register_initializer(value)
    made.graph[0].replace_input_with(1, value)
    return made


@pytest.fixture
def weight() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)


@pytest.fixture
def saved(tmp_path, weight) -> Path:
    save_model(model(weight), tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def rewrite(path: Path, **external: str) -> None:
    proto = onnx.load_model(path, load_external_data=False)
    for tensor in proto.graph.initializer:
        for entry in tensor.external_data:
            entry.value = external.get(entry.key, entry.value)
    path.write_bytes(proto.SerializeToString())


def test_round_trip_keeps_content_and_stays_lazy(saved, weight):
    loaded = load_model(saved)
    tensor = loaded.graph.initializers["w"].const_value
    assert isinstance(tensor, LazyTensor)
    np.testing.assert_array_equal(tensor.numpy(), weight)
    assert saved.with_name("model.onnx.data").stat().st_size == weight.nbytes


def test_saving_leaves_the_model_as_it_was(tmp_path, weight):
    made = model(weight)
    before = graph_hash(made)
    save_model(made, tmp_path / "m.onnx")
    assert graph_hash(made) == before


def test_shared_weights_are_written_once(saved, tmp_path, weight):
    loaded = load_model(saved)
    twin = ir.Value(name="w2", shape=ir.Shape(weight.shape), type=ir.TensorType(ir.DataType.FLOAT))
    twin.const_value = loaded.graph.initializers["w"].const_value
    loaded.graph.register_initializer(twin)
    save_model(loaded, tmp_path / "twice.onnx")
    assert (tmp_path / "twice.onnx.data").stat().st_size == weight.nbytes


@pytest.mark.parametrize(
    ("external", "message"),
    [
        ({"location": "../model.onnx.data"}, "outside the model's folder"),
        ({"location": "/etc/passwd"}, "outside the model's folder"),
        ({"location": "gone.data"}, "missing"),
        ({"offset": "4096"}, "truncated"),
        ({"length": "12"}, "declares 12 bytes"),
    ],
)
def test_bad_external_data_is_refused(saved, external, message):
    rewrite(saved, **external)
    with pytest.raises(BadInput, match=message):
        load_model(saved)


def test_a_link_out_of_the_folder_is_refused(saved, tmp_path_factory):
    data = saved.with_name("model.onnx.data")
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "data"
    os.rename(data, elsewhere)
    data.symlink_to(elsewhere)
    with pytest.raises(BadInput, match="is a link to"):
        load_model(saved)


def test_a_link_within_a_hub_cache_repository_is_followed(saved, tmp_path, weight):
    repository = tmp_path / "models--some--model"
    snapshot, blobs = repository / "snapshots" / "abc", repository / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for name in ("model.onnx", "model.onnx.data"):
        os.rename(saved.with_name(name), blobs / name)
        (snapshot / name).symlink_to(Path("../../blobs") / name)
    loaded = load_model(snapshot / "model.onnx")
    np.testing.assert_array_equal(loaded.graph.initializers["w"].const_value.numpy(), weight)


@pytest.mark.parametrize("content", [b"", b"not a protobuf at all", b"\x08\x0a\x12"])
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "x.onnx"
    path.write_bytes(content)
    with pytest.raises(BadInput):
        load_model(path)


def test_old_opsets_are_refused(tmp_path):
    path = tmp_path / "old.onnx"
    onnx.save(
        onnx.parser.parse_model(MODEL.replace('"" : 23', '"" : 11').replace("MatMul(x, w)", "Relu(x)")), path
    )
    with pytest.raises(BadInput, match="opset 11"):
        load_model(path)


def checkpoint(folder: Path) -> dict[str, np.ndarray]:
    tensors = {name: np.full((4, 4), i, np.float32) for i, name in enumerate("abc")}
    save_file({k: tensors[k] for k in "ab"}, folder / "model-00001-of-00002.safetensors")
    save_file({"c": tensors["c"]}, folder / "model-00002-of-00002.safetensors")
    names = {"a": 1, "b": 1, "c": 2}
    index = {"weight_map": {k: f"model-0000{n}-of-00002.safetensors" for k, n in names.items()}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return tensors


def test_sharded_checkpoint(tmp_path):
    tensors = checkpoint(tmp_path)
    index = SafetensorsIndex(tmp_path)
    assert set(index.keys()) == set(tensors)
    for name, array in tensors.items():
        np.testing.assert_array_equal(index.expr(name).read(), array)


def test_a_missing_shard_is_named(tmp_path):
    checkpoint(tmp_path)
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(BadInput, match=r"00002-of-00002.*missing"):
        SafetensorsIndex(tmp_path)


@pytest.mark.parametrize("keep", [4, 60, -8])
def test_truncated_safetensors_are_refused(tmp_path, keep):
    path = tmp_path / "model.safetensors"
    save_file({"a": np.ones((16, 16), np.float32)}, path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(BadInput, match=r"truncated|damaged"):
        SafetensorsIndex(tmp_path)


def test_a_pickled_checkpoint_is_refused_with_the_command_that_converts_it(tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04")
    with pytest.raises(BadInput, match="weights_only=True"):
        SafetensorsIndex(tmp_path)
