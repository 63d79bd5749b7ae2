"""QNN's simulator of the NPU: a graph becomes an EPContext, and that runs in a fresh process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from graphopt import Package, optimize
from graphopt.cli._main import run
from graphopt.errors import BadInput
from graphopt.evaluate import fallback_nodes
from graphopt.ir import parse
from graphopt.metrics import cosine_similarity
from graphopt.plugins import registry
from tests.targets_real._sources import minilm

TARGET: Any = registry.targets()["qnn"]
NET = """<ir_version: 10, opset_import: ["" : 17]>
g (float[4, 32] x, float[32, 16] w) => (float[4, 16] y) { z = MatMul(x, w)  y = Relu(z) }
"""


def test_a_compiled_graph_runs_in_a_fresh_process(tmp_path: Path) -> None:
    TARGET().compile(parse(NET), tmp_path / "model.onnx")
    compiled = onnx.load(tmp_path / "model.ctx.onnx")
    assert [node.op_type for node in compiled.graph.node] == ["EPContext"]

    session = TARGET().session(tmp_path / "model.onnx")
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal(shape).astype(np.float32) for shape in ((4, 32), (32, 16)))
    (y,) = session.run(None, {"x": x, "w": w})
    np.testing.assert_allclose(y, np.maximum(x @ w, 0), 2e-3, 4e-3)  # in float16
    assert {part.ep_name for part in session.get_provider_graph_assignment_info()} == {TARGET().provider}


def test_a_node_that_it_would_leave_to_the_processor_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the table, and where the table says nothing by the provider, whose own words name no node."""
    text = (
        NET.replace("Relu(z)", "Det(z)").replace("float[4, 16] y", "float y").replace("[32, 16]", "[32, 4]")
    )
    with pytest.raises(BadInput, match=r"cannot run .*Det"):
        TARGET().compile(parse(text), tmp_path / "model.onnx")
    monkeypatch.setattr("graphopt_targets.qnn._target.QnnKernels.unsupported", lambda self, model: ())
    with pytest.raises(BadInput, match=r"QNNExecutionProvider cannot compile .* all but Det"):
        TARGET().compile(parse(text), tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_minilm_at_known_sizes(tmp_path: Path) -> None:
    """By one command: what is compiled runs in a fresh process, and is what the cpu target gives."""
    sizes = ["--dim", "batch=1", "--dim", "sequence=16"]
    words = ["optimize", str(minilm()), "-o", str(tmp_path / "out"), "--target", "qnn", "--recipe", "fp16"]
    assert run([*words, *sizes, "-q"]) == 0
    made = Package.load(tmp_path / "out")
    assert made.manifest.closing_check == "passed"
    assert fallback_nodes(made) == []
    compiled = onnx.load(made.path / "model.ctx.onnx")
    assert {node.op_type for node in compiled.graph.node} == {"EPContext"}

    ids = np.asarray([[101, 2023, 2003, 1037, 3231, 102], [101, 2178, 2028, 102, 0, 0]])
    given = {"input_ids": ids, "attention_mask": (ids != 0).astype(np.int64), "token_type_ids": 0 * ids}
    np.savez(tmp_path / "in.npz", **given)
    program = (
        "import sys, numpy as np, graphopt\n"
        "made = graphopt.Package.load(sys.argv[1])\n"
        "np.savez(sys.argv[3], **made.run(dict(np.load(sys.argv[2]))))\n"
    )
    places = [str(made.path), str(tmp_path / "in.npz"), str(tmp_path / "out.npz")]
    subprocess.run([sys.executable, "-c", program, *places], check=True, env=os.environ)
    got = np.load(tmp_path / "out.npz")["sentence_embedding"]
    plain = optimize(minilm(), tmp_path / "cpu", target="cpu", recipe="lossless", verify="off")
    assert cosine_similarity(plain.run(given)["sentence_embedding"], got).min() >= 0.999

    with pytest.raises(BadInput, match=r"17 long, and .* takes 16 at most"):
        made.run({name: np.ones((1, 17), np.int64) for name in given})
    context = made.path / "model.ctx.onnx"
    context.write_bytes(context.read_bytes()[:-1])
    with pytest.raises(BadInput, match="cut or swapped"):
        Package.load(made.path).session()


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [("no_such_option", "1", "no option 'no_such_option'"), ("soc_model", "x-elite", "'soc_model' is")],
)
def test_an_option_that_it_does_not_know_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str, value: str, said: str
) -> None:
    """The provider itself goes on without it."""
    target = TARGET()
    settings = target.plain_settings()
    settings["options"][option] = value
    monkeypatch.setattr(target, "plain_settings", lambda: settings)
    with pytest.raises(BadInput, match=f"QNNExecutionProvider cannot compile .*{said}"):
        target.compile(parse(NET), tmp_path / "model.onnx")
