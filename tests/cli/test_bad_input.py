"""Bad input gets a clear message and the right exit code, no traceback, and nothing half-written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, parser

from graphopt.cli._main import run

NET = """
<ir_version: 10, opset_import: ["" : 23]>
net (float[2, 4] x) => (float[2, 4] y)
{
  y = Relu(x)
}
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, empty."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def refused(here: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command that must fail with the given code; gives what it said on stderr."""

    def refused(*arguments: str, code: int = 2) -> str:
        before = sorted(here.rglob("*"))
        assert run(arguments) == code
        said = capsys.readouterr()
        assert said.out == ""
        assert "Traceback" not in said.err
        assert "error: " in said.err
        assert sorted(here.rglob("*")) == before
        return said.err

    return refused


def external(path: Path, location: str, *, length: int = 64) -> None:
    """A model at `path` with one weight of 64 bytes in the file `location`."""
    model = parser.parse_model(NET)
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[16], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", "0"), ("length", str(length))):
        weight.external_data.add(key=key, value=value)
    model.graph.initializer.append(weight)
    path.write_bytes(model.SerializeToString())


def test_a_missing_path(refused: Callable[..., str]) -> None:
    assert "no/such/model.onnx does not exist" in refused("optimize", "no/such/model.onnx")


def test_a_mistyped_embedded_model(refused: Callable[..., str]) -> None:
    said = refused("optimize", "tiny-codr")

    assert "tiny-codr does not exist" in said
    assert "'tiny-coder'" in said


def test_a_folder_without_config(refused: Callable[..., str], here: Path) -> None:
    (here / "model").mkdir()

    assert "has no config.json" in refused("optimize", "model")


def test_a_hub_id_without_network(refused: Callable[..., str]) -> None:
    said = refused("optimize", "some-organisation/some-model", code=4)

    assert "Hugging Face Hub cannot be reached" in said


def test_truncated_safetensors(
    refused: Callable[..., str], here: Path, tiny_model: Callable[..., Path]
) -> None:
    shutil.copytree(tiny_model("llama"), here / "model")
    weights = here / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])

    said = refused("optimize", "model")
    assert "model.safetensors" in said


def test_an_architecture_that_does_not_exist(
    refused: Callable[..., str], here: Path, tiny_model: Callable[..., Path]
) -> None:
    shutil.copytree(tiny_model("llama"), here / "model")
    config = json.loads((here / "model" / "config.json").read_text())
    (here / "model" / "config.json").write_text(
        json.dumps(config | {"model_type": "warpdrive", "architectures": ["WarpDriveForCausalLM"]})
    )

    assert "WarpDriveForCausalLM" in refused("optimize", "model")


def test_an_architecture_that_cannot_be_traced_is_named_with_the_exporters_error(
    refused: Callable[..., str],
    tiny_model: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from transformers.models.llama.modeling_llama import LlamaModel

    def data_dependent(self: object, input_ids: object = None, **_: object) -> None:
        raise RuntimeError("planted: this cannot be traced")

    source = tiny_model("llama")
    monkeypatch.setattr(LlamaModel, "forward", data_dependent)
    said = refused("optimize", str(source))

    assert "Llama" in said
    assert "planted: this cannot be traced" in said


@pytest.mark.parametrize("content", [b"", b"not a protobuf at all", b"\x08"])
def test_a_corrupt_protobuf(refused: Callable[..., str], here: Path, content: bytes) -> None:
    (here / "net.onnx").write_bytes(content)

    assert "net.onnx is not an ONNX model" in refused("optimize", "net.onnx")


def test_missing_external_data(refused: Callable[..., str], here: Path) -> None:
    external(here / "net.onnx", "net.data")

    assert "'net.data', which is missing" in refused("optimize", "net.onnx")


def test_short_external_data(refused: Callable[..., str], here: Path) -> None:
    external(here / "net.onnx", "net.data")
    (here / "net.data").write_bytes(bytes(10))

    assert "truncated" in refused("optimize", "net.onnx")


@pytest.mark.parametrize("location", ["../net.data", "/etc/hostname", "a/../../net.data"])
def test_external_data_outside_the_folder(refused: Callable[..., str], here: Path, location: str) -> None:
    external(here / "net.onnx", location)
    (here.parent / "net.data").write_bytes(bytes(64))

    assert "outside the model's folder" in refused("optimize", "net.onnx")


def test_external_data_through_a_link_out_of_the_folder(refused: Callable[..., str], here: Path) -> None:
    external(here / "net.onnx", "net.data")
    (here.parent / "secret").write_bytes(bytes(64))
    (here / "net.data").symlink_to(here.parent / "secret")

    assert "outside the model's folder" in refused("optimize", "net.onnx")


@pytest.mark.parametrize(
    ("options", "known"),
    [
        (["--recipe", "losless"], "'lossless'"),
        (["--target", "cpuu"], "'cpu'"),
        (["--explain", "csee"], "'cse'"),
        (["--recipe", "lossless", "--set", "csee.x=1"], "'cse'"),
        (["--recipe", "lossless", "--set", "fold-constants.max-growht=1"], "'max_growth'"),
        (["--recipe", "lossless", "--stop-after", "dead-cod"], "'dead-code'"),
    ],
)
def test_a_mistyped_name_gets_the_nearest(
    refused: Callable[..., str], here: Path, options: list[str], known: str
) -> None:
    onnx.save(parser.parse_model(NET), here / "net.onnx")

    assert f"Did you mean {known}" in refused("optimize", "net.onnx", *options)


def test_an_output_folder_that_holds_a_package_needs_force(
    refused: Callable[..., str], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    onnx.save(parser.parse_model(NET), here / "net.onnx")
    assert run(["export", "net.onnx", "-o", "out", "--quiet"]) == 0

    assert "--force" in refused("export", "net.onnx", "-o", "out")
    assert run(["export", "net.onnx", "-o", "out", "--quiet", "--force"]) == 0


def test_an_output_folder_that_holds_something_else_is_never_replaced(
    refused: Callable[..., str], here: Path
) -> None:
    onnx.save(parser.parse_model(NET), here / "net.onnx")
    (here / "out").mkdir()
    (here / "out" / "thesis.tex").touch()

    assert "not a graphopt package" in refused("export", "net.onnx", "-o", "out", "--force")


@pytest.mark.parametrize("verb", ["run", "validate", "bench"])
def test_what_is_not_a_package(refused: Callable[..., str], here: Path, verb: str) -> None:
    options = {"validate": ["--reference", "tiny-coder"]}.get(verb, [])

    assert "does not exist" in refused(verb, "nowhere", *options)
    (here / "empty").mkdir()
    assert "is not a graphopt package" in refused(verb, "empty", *options)


def test_a_damaged_manifest(refused: Callable[..., str], here: Path) -> None:
    (here / "package").mkdir()
    (here / "package" / "graphopt.json").write_text("{")

    assert "graphopt.json is not JSON" in refused("run", "package")


def test_a_manifest_from_the_future(refused: Callable[..., str], here: Path) -> None:
    (here / "package").mkdir()
    (here / "package" / "graphopt.json").write_text('{"version": 99}')

    assert "Upgrade graphopt" in refused("run", "package")
