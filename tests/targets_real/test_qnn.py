"""QNN's simulator of the NPU: a graph becomes an EPContext, and that runs in a fresh process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from graphopt.errors import BadInput
from graphopt.ir import parse
from graphopt.plugins import registry

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
    assert np.abs(y - np.maximum(x @ w, 0)).max() < 1e-4
    assert {part.ep_name for part in session.get_provider_graph_assignment_info()} == {TARGET().provider}


def test_a_node_that_it_would_leave_to_the_processor_is_an_error(tmp_path: Path) -> None:
    text = (
        NET.replace("Relu(z)", "Det(z)").replace("float[4, 16] y", "float y").replace("[32, 16]", "[32, 4]")
    )
    with pytest.raises(BadInput, match="QNNExecutionProvider cannot compile"):
        TARGET().compile(parse(text), tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []
