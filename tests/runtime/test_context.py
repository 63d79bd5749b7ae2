"""Compiling ahead of time: that nothing was compiled is an error, and a file that does not fit is found."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, parser

from graphopt import BadInput
from graphopt.errors import EnvironmentProblem
from graphopt.runtime import CPU, check_context, compile_context
from graphopt.runtime._context import _recorded

RELU = """
    <ir_version: 10, opset_import: ["" : 23]>
    g (float[2] x) => (float[2] y) { y = Relu(x) }
"""
RECORD = "context.onnx.compiled.json"


@pytest.fixture
def relu(tmp_path: Path) -> Path:
    (tmp_path / "source").mkdir()
    onnx.save(parser.parse_model(RELU), tmp_path / "source" / "model.onnx")
    return tmp_path / "source" / "model.onnx"


def test_onnxruntime_passes_over_in_silence_that_nothing_was_compiled(relu: Path, tmp_path: Path) -> None:
    """What the flag is for: without it an uncompiled copy is written, and no error is raised."""
    options = ort.SessionOptions()
    options.add_provider(CPU, {})
    ort.ModelCompiler(options, str(relu)).compile_to_file(str(tmp_path / "out.onnx"))

    assert [node.op_type for node in onnx.load(tmp_path / "out.onnx").graph.node] == ["Relu"]


def test_here_it_is_an_error(relu: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=f"{CPU} cannot compile .*Unable to compile any nodes"):
        compile_context(relu, tmp_path / "out.onnx", provider=CPU)

    assert [path.name for path in tmp_path.iterdir()] == ["source"], "nothing was written"


def test_a_provider_that_is_not_here(relu: Path, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match="NoSuchProvider has no device here"):
        compile_context(relu, tmp_path / "out.onnx", provider="NoSuchProvider")


def test_a_graph_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(BadInput, match="cannot compile"):
        compile_context(tmp_path / "model.onnx", tmp_path / "out.onnx", provider=CPU)


@pytest.fixture
def context(tmp_path: Path) -> Path:
    """A compiled graph as a provider would have written it here, its piece in a file beside it."""
    piece = helper.make_node(
        "EPContext", ["x"], ["h"], domain="com.microsoft", embed_mode=0, ep_cache_context="context.bin"
    )
    graph = helper.make_graph(
        [piece, helper.make_node("Relu", ["h"], ["y"], name="left")],
        "compiled",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])],
    )
    (tmp_path / "context.bin").write_bytes(b"compiled" * 100)
    onnx.save(helper.make_model(graph, ir_version=10), tmp_path / "context.onnx")
    written = _recorded(tmp_path / "context.onnx", CPU, {"precision": "fp16"}, None)
    assert (written.pieces, written.left) == (1, ("left",))
    assert written.files == ("context.onnx", "context.bin", RECORD)
    return tmp_path / "context.onnx"


def test_where_nothing_changed_it_is_as_good_as_new(context: Path) -> None:
    assert check_context(context, provider=CPU).fit == "optimal"


def test_another_provider_does_not_load_it(context: Path) -> None:
    found = check_context(context, provider="QNNExecutionProvider")

    assert found.fit == "unsupported"
    assert found.reason == f"it was compiled for {CPU}"


def test_another_version_asks_for_compiling_anew(context: Path) -> None:
    record = context.with_name(RECORD)
    said = json.loads(record.read_text())
    said["environment"]["onnxruntime"] = "1.0"
    record.write_text(json.dumps(said))
    found = check_context(context, provider=CPU)

    assert found.fit == "recompile"
    assert found.reason == f"onnxruntime was 1.0 and is {ort.__version__}"


def test_a_provider_that_is_gone(context: Path) -> None:
    record = context.with_name(RECORD)
    said = json.loads(record.read_text()) | {"provider": "GoneProvider"}
    record.write_text(json.dumps(said))

    assert check_context(context, provider="GoneProvider").fit == "unsupported"


def test_without_a_record_nothing_is_known(context: Path) -> None:
    context.with_name(RECORD).unlink()
    assert check_context(context, provider=CPU).fit == "recompile"


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (
            lambda folder: (folder / "context.bin").write_bytes(b"compiled" * 99),
            "context.bin is not the file",
        ),
        (
            lambda folder: (folder / "context.bin").write_bytes(b"swapped!" * 100),
            "context.bin is not the file",
        ),
        (lambda folder: (folder / "context.bin").unlink(), "context.bin, which is missing"),
        (lambda folder: (folder / RECORD).write_text("{}"), "is damaged"),
        (lambda folder: (folder / RECORD).write_text("no"), "is not JSON"),
        (lambda folder: (folder / "context.onnx").write_bytes(b"cut"), "context.onnx"),
    ],
)
def test_a_file_that_was_cut_or_swapped(context: Path, harm: Callable[[Path], object], said: str) -> None:
    harm(context.parent)

    with pytest.raises(BadInput, match=said):
        check_context(context, provider=CPU)


def test_what_the_provider_left_in_the_graph_is_asked_of_it(context: Path) -> None:
    """The CPU provider answers that it does not apply, and what the record says counts."""
    model = onnx.load(context)
    model.metadata_props.add(key=f"ep_compatibility_info.{CPU}", value="some version")
    onnx.save(model, context)
    _recorded(context, CPU, {}, None)

    assert check_context(context, provider=CPU).fit == "optimal"
