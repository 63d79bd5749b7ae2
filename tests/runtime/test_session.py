"""Sessions: from a file or from memory, on a provider, and a plain reason where there is none."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import parser

from graphopt import BadInput
from graphopt.errors import EnvironmentProblem
from graphopt.runtime import CPU, default_threads, open_session, plain_options, session_of, session_options

RELU = """
    <ir_version: 10, opset_import: ["" : 23]>
    g (float[2] x) => (float[2] y) { y = Relu(x) }
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    onnx.save(parser.parse_model(RELU), tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def test_from_a_file_and_from_memory(file: Path) -> None:
    for session in (open_session(file), open_session(str(file)), session_of(file.read_bytes())):
        assert [i.name for i in session.get_inputs()] == ["x"]
        assert session.get_providers() == [CPU]


def test_no_session_falls_back_to_the_cpu_by_itself(file: Path) -> None:
    """onnxruntime's Python does that where a provider fails, prints a line, and goes on."""
    assert open_session(file)._enable_fallback is False


def test_a_provider_that_is_not_installed(file: Path) -> None:
    for opened in (lambda: open_session(file, providers=("NoSuchProvider",)), lambda: on_no_such(file)):
        with pytest.raises(EnvironmentProblem, match="no NoSuchProvider"):
            opened()


def on_no_such(file: Path) -> object:
    return session_of(file.read_bytes(), providers=("NoSuchProvider", CPU))


def test_the_runtimes_own_optimizations_are_off(tmp_path: Path) -> None:
    """What lies behind a graph of constants alone is folded, unless they are."""
    nodes = "c = Constant<value = float[2] {1, 2}>() a = Neg(c) y = Add(x, a)"
    text = RELU.replace("y = Relu(x)", nodes)
    onnx.save(parser.parse_model(text), tmp_path / "model.onnx")
    counts = []
    for kind, options in (("plain", plain_options()), ("usual", session_options())):
        options.optimized_model_filepath = str(tmp_path / f"{kind}.onnx")
        open_session(tmp_path / "model.onnx", options=options)
        counts.append(len(onnx.load(tmp_path / f"{kind}.onnx").graph.node))

    assert counts == [2, 1]


def test_names_in_errors() -> None:
    with pytest.raises(BadInput, match="cannot load the graph of a test"):
        session_of(b"not a model", name="the graph of a test")


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
        open_session(tmp_path / "model.onnx")
