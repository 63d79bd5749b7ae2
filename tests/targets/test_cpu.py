"""The cpu target: what it writes, what it refuses, and how its sessions are set up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from graphopt import BadInput, optimize
from graphopt.ir import parse
from graphopt.plugins import registry
from graphopt.recipes import Budget, Recipe
from graphopt.runtime import default_threads
from graphopt.targets import Target
from tests.ir._weighted import weighted

CELU = """
    <ir_version: 10, opset_import: ["" : 23]>
    g (double[2] x) => (double[2] y) { h = Neg(x)  y = Celu(h) }
"""


@pytest.fixture
def cpu() -> Target:
    return registry.resolve("target", "cpu", registry.targets())()


def test_it_writes_a_graph_that_runs(cpu: Target, tmp_path: Path) -> None:
    weight = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
    report = cpu.compile(weighted(weight), tmp_path / "model.onnx")

    assert {p.name for p in tmp_path.iterdir()} == {"model.onnx"}
    assert report.bytes == sum(p.stat().st_size for p in tmp_path.iterdir())
    assert report.nodes == len(onnx.load(tmp_path / "model.onnx", load_external_data=False).graph.node)
    assert report.load_seconds > 0
    assert cpu.session(tmp_path / "model.onnx").get_inputs()


def test_it_refuses_what_it_cannot_run_and_writes_nothing(cpu: Target, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"'y/Celu' \(ai.onnx::Celu\).*tensor\(double\)") as refused:
        cpu.compile(parse(CELU), tmp_path / "model.onnx")

    assert refused.value.hint is not None
    assert "Export the model" in refused.value.hint
    assert not list(tmp_path.iterdir())


def test_types_nobody_wrote_down_are_inferred_before_it_judges(cpu: Target, tmp_path: Path) -> None:
    model = parse(CELU)
    assert model.graph[0].outputs[0].dtype is None

    with pytest.raises(BadInput, match="Celu"):
        cpu.compile(model, tmp_path / "model.onnx")


def test_a_refusal_names_the_edit_that_made_the_node(cpu: Target, tmp_path: Path) -> None:
    model = parse(CELU)
    model.graph[1].metadata_props["graphopt.provenance"] = "fuse-celu:1 <- a"

    with pytest.raises(BadInput) as refused:
        cpu.compile(model, tmp_path / "model.onnx")

    assert refused.value.hint == (
        "Edit fuse-celu:1 made it: leave that pass out of the recipe, or set its options."
    )


def test_sessions_use_the_threads_of_this_process_or_those_asked_for(cpu: Target, tmp_path: Path) -> None:
    cpu.compile(weighted(np.ones((64, 64), np.float32)), tmp_path / "model.onnx")
    for threads, expected in ((None, default_threads()), (3, 3)):
        session = cpu.session(tmp_path / "model.onnx", threads=threads)
        assert session.get_session_options().intra_op_num_threads == expected


def test_lowering_is_made_of_passes_that_exist(cpu: Target) -> None:
    steps = cpu.lowering(Recipe("lossless", "", Budget(), ()))

    assert steps
    assert {step.name for step in steps} <= set(registry.passes())


def test_the_fingerprint_says_what_speed_depends_on(cpu: Target) -> None:
    found = cpu.fingerprint()

    assert set(found) == {"processor", "instructions", "cores", "threads", "quota", "onnxruntime", "kernels"}
    assert all(found[key] for key in set(found) - {"instructions"})
    assert found["threads"] == str(default_threads())


def test_what_the_target_remarks_is_in_the_report(tmp_path: Path) -> None:
    model = onnx.parser.parse_model("""
        <ir_version: 10, opset_import: ["" : 23]>
        g (float[B,64] x) => (float[B,64] y) { y = MatMul(x, w) }
    """)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.eye(64, dtype=np.float32), "w"))
    onnx.save(model, tmp_path / "model.onnx")

    (tmp_path / "blocks.toml").write_text('extends = "int8"\nalternatives = []\n')  # however slow they are

    package = optimize(
        tmp_path / "model.onnx",
        tmp_path / "out",
        recipe=str(tmp_path / "blocks.toml"),
        settings=["quantize-weights.accuracy_level=0"],
        dims=["B=2"],
        verify="structure",
    )

    assert any("takes over a hundred times as long" in note for note in package.report().notes)
