"""Safetensors checkpoints: what is read lazily, and what is refused with which words."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from graphopt.errors import BadInput
from graphopt.ir import Cast, SafetensorsIndex

INDEX = "model.safetensors.index.json"


def shard(number: int) -> str:
    return f"model-0000{number}-of-00002.safetensors"


@pytest.fixture
def single(tmp_path) -> Path:
    save_file(
        {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(4, dtype=torch.int64)},
        tmp_path / "model.safetensors",
    )
    return tmp_path


@pytest.fixture
def sharded(tmp_path) -> Path:
    save_file({"a": torch.zeros(2), "b": torch.ones(2)}, tmp_path / shard(1))
    save_file({"c": torch.full((2,), 2.0)}, tmp_path / shard(2))
    write_index(tmp_path, {"a": shard(1), "b": shard(1), "c": shard(2)})
    return tmp_path


def write_index(folder: Path, weight_map: object) -> None:
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def write_header(folder: Path, header: object, data: bytes = bytes(64)) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path = folder / "model.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def test_a_single_file(single):
    index = SafetensorsIndex(single)
    assert set(index.keys()) == {"a", "b"}
    assert len(index) == 2
    assert "a" in index
    assert "z" not in index
    assert index.expr("a").read().tolist() == [[0, 1, 2], [3, 4, 5]]
    assert index.expr("b").dtype == ir.DataType.INT64
    with pytest.raises(KeyError):
        index.expr("z")


def test_shards(sharded):
    index = SafetensorsIndex(sharded)
    assert set(index.keys()) == {"a", "b", "c"}
    assert [index.expr(key).read().tolist() for key in "abc"] == [[0, 0], [1, 1], [2, 2]]
    assert {index.expr(key).path.name for key in "ac"} == {shard(1), shard(2)}


def test_the_single_file_wins_over_an_index_as_in_transformers(sharded):
    save_file({key: torch.full((2,), 9.0) for key in "abc"}, sharded / "model.safetensors")
    assert SafetensorsIndex(sharded).expr("a").read().tolist() == [9, 9]


DTYPES = [
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2),
    *(torch.int64, torch.int32, torch.int16, torch.int8),
    *(torch.uint64, torch.uint32, torch.uint16, torch.uint8),
    *(torch.bool, torch.complex64),
]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype_reads_as_torch_does(tmp_path, dtype):
    tensor = torch.tensor([[0, 1], [2, 3]]).to(dtype)
    save_file({"x": tensor}, tmp_path / "model.safetensors")
    read = SafetensorsIndex(tmp_path).expr("x").read()
    assert read.tobytes() == tensor.view(torch.uint8).numpy().tobytes()
    assert read.astype(np.complex128).tolist() == tensor.to(torch.complex128).tolist()


def test_bfloat16_widens_exactly(tmp_path):
    tensor = torch.randn(64, 8, generator=torch.Generator().manual_seed(0)).bfloat16()
    save_file({"x": tensor}, tmp_path / "model.safetensors")
    expr = Cast(SafetensorsIndex(tmp_path).expr("x"), ir.DataType.FLOAT)
    np.testing.assert_array_equal(expr.read(), tensor.float().numpy())
    np.testing.assert_array_equal(expr.read((slice(3, 9), slice(1, 4))), tensor.float().numpy()[3:9, 1:4])


def test_a_rewritten_file_has_another_identity(single):
    before = SafetensorsIndex(single).expr("a").identity
    assert SafetensorsIndex(single).expr("a").identity == before
    os.utime(single / "model.safetensors", ns=(1, 1))
    assert SafetensorsIndex(single).expr("a").identity != before


@pytest.mark.parametrize("keep", [0, 4, 8, 60, -1])
def test_truncated_files_are_refused(single, keep):
    path = single / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(BadInput, match=r"model\.safetensors is truncated"):
        SafetensorsIndex(single)


def entry(**changes: object) -> dict[str, object]:
    return {"x": {"dtype": "F32", "shape": [4, 4], "data_offsets": [0, 64]} | changes}


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"{" * 50, "damaged"),
        (b"[" * 100_000, "damaged"),
        (b"\xff\xfe" * 10, "damaged"),
        ([1, 2], "damaged"),
        ({"x": 3}, "damaged"),
        (entry(shape=[4, 5]), "damaged.*cannot hold"),
        (entry(shape=[-4, -4]), "damaged"),
        (entry(shape=[4.0, 4]), "damaged"),
        (entry(shape="44"), "damaged"),
        (entry(data_offsets=[64, 0]), "damaged"),
        (entry(data_offsets=[-64, 0]), "damaged"),
        (entry(data_offsets=[0]), "damaged"),
        (entry(data_offsets=[0, 10**40]), "truncated"),
        (entry(data_offsets=[64, 128]), "'x' ends at byte .* the file at"),
        (entry(dtype="F4"), "'x' is of dtype F4"),
        (entry(dtype=["F32"]), "damaged"),
    ],
)
def test_damaged_headers_are_refused(tmp_path, header, message):
    write_header(tmp_path, header)
    with pytest.raises(BadInput, match=rf"(?s)model\.safetensors.*{message}|{message}.*model\.safetensors"):
        SafetensorsIndex(tmp_path)


def test_a_header_longer_than_safetensors_allows_is_not_read(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes((200 << 20).to_bytes(8, "little"))
    os.truncate(path, 1 << 30)
    with pytest.raises(BadInput, match="more than safetensors allows"):
        SafetensorsIndex(tmp_path)


def test_a_missing_shard_is_named(sharded):
    (sharded / shard(2)).unlink()
    with pytest.raises(BadInput, match=r"00002-of-00002.* is missing"):
        SafetensorsIndex(sharded)


def test_a_tensor_that_only_the_index_has_is_named(sharded):
    write_index(sharded, {"a": shard(1), "d": shard(2)})
    with pytest.raises(BadInput, match=r"00002-of-00002.* has no tensor 'd'"):
        SafetensorsIndex(sharded)


@pytest.mark.parametrize("name", ["../x.safetensors", "/etc/passwd", "sub/x.safetensors"])
def test_shards_elsewhere_are_refused(sharded, name):
    write_index(sharded, {"a": name})
    with pytest.raises(BadInput, match="not a plain file name"):
        SafetensorsIndex(sharded)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"weight_map": 3}', b'{"weight_map": {"a": 1}}', b"\xff"]
)
def test_a_damaged_index_is_refused(tmp_path, content):
    (tmp_path / INDEX).write_bytes(content)
    with pytest.raises(BadInput, match="is not a safetensors index"):
        SafetensorsIndex(tmp_path)


def test_links_stay_in_the_hub_repository(single, tmp_path_factory):
    cache = tmp_path_factory.mktemp("hub")
    snapshot, blobs = cache / "models--a--b" / "snapshots" / "r", cache / "models--a--b" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    (single / "model.safetensors").rename(blobs / "d1")
    (snapshot / "model.safetensors").symlink_to("../../blobs/d1")
    assert "a" in SafetensorsIndex(snapshot)

    (blobs / "d1").rename(cache / "d1")
    (blobs / "d1").symlink_to(cache / "d1")
    with pytest.raises(BadInput, match="is a link to"):
        SafetensorsIndex(snapshot)


def test_a_dangling_link_is_named(tmp_path):
    (tmp_path / "model.safetensors").symlink_to("blob")
    with pytest.raises(BadInput, match=r"model\.safetensors is missing, or is a link to a file that is"):
        SafetensorsIndex(tmp_path)


def test_an_empty_folder_says_what_it_lacks(tmp_path):
    with pytest.raises(BadInput, match=r"no model\.safetensors and no model\.safetensors\.index\.json"):
        SafetensorsIndex(tmp_path)


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "pytorch_model-00001-of-00002.bin", "model.pt", "x.pth", "y.ckpt"]
)
def test_pickles_are_refused_unopened(tmp_path, name):
    (tmp_path / name).write_bytes(b"\x80\x04")
    with pytest.raises(BadInput, match=f"pickled checkpoint .{name}.") as refusal:
        SafetensorsIndex(tmp_path)
    assert "python -c" in (refusal.value.hint or "")


def test_the_command_that_the_refusal_names_converts_the_checkpoint(tmp_path):
    folder = tmp_path / "it's a model"
    folder.mkdir()
    weight = torch.arange(6.0).reshape(2, 3)
    torch.save({"embed": weight, "head": weight}, folder / "pytorch_model-00001-of-00002.bin")
    torch.save({"turned": weight.T}, folder / "pytorch_model-00002-of-00002.bin")
    with pytest.raises(BadInput) as refusal:
        SafetensorsIndex(folder)
    command = shlex.split((refusal.value.hint or "").removeprefix("Convert it: "))
    assert command[0] == "python"
    subprocess.run([sys.executable, *command[1:]], check=True)

    index = SafetensorsIndex(folder)
    assert index.expr("turned").read().tolist() == weight.T.tolist()
    assert index.expr("embed").read().tolist() == index.expr("head").read().tolist() == weight.tolist()
    with safe_open(folder / "model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}
