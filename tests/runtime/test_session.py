"""Sessions: from a file or a package folder, and a plain reason where there is none."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import parser

from graphopt import BadInput, optimize
from graphopt.runtime import default_threads, open_session, session_options

RELU = """
    <ir_version: 10, opset_import: ["" : 23]>
    g (float[2] x) => (float[2] y) { y = Relu(x) }
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    onnx.save(parser.parse_model(RELU), tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def test_from_a_file_and_from_its_folder(file: Path) -> None:
    for path in (file, str(file), file.parent):
        assert [i.name for i in open_session(path).get_inputs()] == ["x"]


def test_from_a_package_as_its_manifest_says(file: Path, tmp_path: Path) -> None:
    package = optimize(file, tmp_path / "package", recipe="lossless")
    file.unlink()

    assert [i.name for i in open_session(package.path).get_inputs()] == ["x"]


def test_threads(file: Path) -> None:
    assert session_options().intra_op_num_threads == default_threads()
    assert open_session(file).get_session_options().intra_op_num_threads == default_threads()
    assert open_session(file, threads=3).get_session_options().intra_op_num_threads == 3


@pytest.mark.parametrize("content", [None, b"", b"not a model"])
def test_what_is_not_a_model(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "model.onnx"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(BadInput, match=r"cannot load .*model\.onnx"):
        open_session(path)


def test_a_graph_the_runtime_refuses(tmp_path: Path) -> None:
    onnx.save(parser.parse_model(RELU.replace("Relu", "Rely")), tmp_path / "model.onnx")

    with pytest.raises(BadInput, match="Rely"):
        open_session(tmp_path)
