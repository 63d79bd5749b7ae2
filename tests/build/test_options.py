"""What is asked of a run is data: it can be sent, compared and changed."""

from __future__ import annotations

import multiprocessing
import pickle
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import onnx.parser
import pytest

from graphopt import BadInput, OptimizeOptions, optimize
from graphopt.plugins import registry

NET = onnx.parser.parse_model("""
<ir_version: 10, opset_import: ["" : 23]>
g (float[batch, 4] x) => (float[batch, 4] y) { a = Identity(x)
  y = Relu(a) }
""").SerializeToString()


def _made(sent: bytes, source: str, out: str) -> str:
    package = optimize(source, out, options=pickle.loads(sent))
    return (package.path / "model.onnx").read_bytes().hex()


def test_options_are_frozen_data_that_come_back_equal() -> None:
    options = OptimizeOptions(recipe="int4", dims=["batch=1,3"], settings=["cse.x=1"], inputs=Path("a.npz"))
    assert pickle.loads(pickle.dumps(options)) == options
    assert hash(options) == hash(replace(options))
    assert options.dims == ("batch=1,3",)
    with pytest.raises(FrozenInstanceError):
        options.recipe = "int8"  # type: ignore[misc]


def test_another_process_makes_the_same_of_them(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(NET)
    options = OptimizeOptions(recipe="lossless", dims=("batch=2",), cache=False)
    sent = pickle.dumps(options)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        there = pool.apply(_made, (sent, str(tmp_path / "net.onnx"), str(tmp_path / "there")))
    assert there == _made(sent, str(tmp_path / "net.onnx"), str(tmp_path / "here"))


def test_changes_are_fields_of_the_options(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(NET)
    asked = OptimizeOptions(recipe="no-such-recipe", cache=False, dims=("batch=2",))
    package = optimize(tmp_path / "net.onnx", tmp_path / "out", options=asked, recipe="lossless")
    assert package.manifest.recipe == "lossless"
    with pytest.raises(BadInput, match="no-such-recipe"):
        optimize(tmp_path / "net.onnx", tmp_path / "other", options=asked)


def test_an_unknown_option_is_named(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="recipes"):
        optimize("tiny-coder", tmp_path / "out", recipes="int4")


def test_where_no_target_is_named_it_is_the_first_of_graphopts_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "net.onnx").write_bytes(NET)

    class Other(registry.default_target()):  # type: ignore[misc]
        name = "other"

    monkeypatch.setattr(registry, "default_target", lambda: Other)
    package = optimize(
        tmp_path / "net.onnx", tmp_path / "out", recipe="lossless", dims=["batch=2"], cache=False
    )
    assert package.manifest.target.name == "other"
