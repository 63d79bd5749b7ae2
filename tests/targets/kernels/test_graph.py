"""Which nodes are handed to our kernels, and when none are."""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from graphopt_targets.cpu.kernels import kernels_name, library, open_session, own_graph, with_own_kernels
from onnx import TensorProto, helper

from graphopt import BadInput
from graphopt.runtime import open_session as stock_session
from graphopt.runtime import with_options
from tests.targets.kernels._products import product


def domains(model: onnx.ModelProto) -> list[str]:
    with_own_kernels(model)
    return [node.domain for node in model.graph.node]


@pytest.mark.parametrize("form", ["2/32", "2/128", "4/32", "4/128", "4/256", "8/32", "8/128", "8/256"])
@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_a_product_that_is_served(form: str, zeros: bool, bias: bool, tmp_path: Path) -> None:
    bits, block = map(int, form.split("/"))
    model = product(480, 24, block, bits, zeros=zeros, bias=bias)
    onnx.save(model, tmp_path / "model.onnx")

    assert own_graph(tmp_path / "model.onnx") is not None
    assert domains(model) == ["graphopt"]
    optional = ["zeros" if zeros else "", "bias"] if bias else ["zeros"] if zeros else []
    assert list(model.graph.node[0].input) == ["x", "w", "scales", *optional]
    assert {o.domain: o.version for o in model.opset_import}["graphopt"] == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"bits": 3},
        {"bits": 8, "w": np.zeros((24, 4, 64), np.uint8)},
        {"accuracy_level": 0},
        {"block_size": 16},
        {"block_size": 512},
        {"K": 384},
        {"K": 513},
        {"N": 25},
        {"N": 0},
        {"weight_prepacked": 1},
        {"w": np.zeros((24, 4, 63), np.uint8)},
        {"w": np.zeros((24, 4, 64), np.int8)},
        {"scales": np.ones((24, 4), np.float16)},
        {"scales": np.ones((23, 4), np.float32)},
    ],
    ids=str,
)
def test_a_product_that_is_not(changes: dict[str, Any]) -> None:
    assert domains(product(512, 24, 128, **changes)) == ["com.microsoft"]


def test_bits_that_are_not_said_are_four() -> None:
    model = product(512, 24, 128)
    (bits,) = (a for a in model.graph.node[0].attribute if a.name == "bits")
    model.graph.node[0].attribute.remove(bits)

    assert domains(model) == ["graphopt"]
    assert {a.name: a.i for a in model.graph.node[0].attribute}["bits"] == 4


@pytest.mark.parametrize(
    "zeros",
    [np.zeros((24, 1), np.uint8), np.zeros((24, 4), np.float32), np.zeros((24, 2), np.int8)],
    ids=lambda zeros: f"{zeros.dtype}{zeros.shape}",
)
def test_zero_points_of_another_size_or_type(zeros: Any) -> None:
    assert domains(product(512, 24, 128, zeros=zeros)) == ["com.microsoft"]


def test_an_order_of_groups() -> None:
    model = product(512, 24, 128, bias=True)
    model.graph.node[0].input[4] = "bias"

    assert domains(model) == ["com.microsoft"]


@pytest.mark.parametrize("name", ["w", "scales", "bias"])
def test_what_a_caller_may_replace(name: str) -> None:
    model = product(512, 24, 128, bias=True)
    model.graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))

    assert domains(model) == ["com.microsoft"]


def test_a_bias_that_is_computed() -> None:
    model = product(512, 24, 128)
    model.graph.node[0].input.extend(["", "", "y0"])

    assert domains(model) == ["com.microsoft"]


def test_the_environment_may_say_onnxruntime(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GRAPHOPT_KERNELS", "onnxruntime")
    onnx.save(product(512, 24, 128), tmp_path / "model.onnx")
    x = np.random.default_rng(0).standard_normal((1, 512), np.float32)

    assert library() is None
    assert kernels_name() == "onnxruntime"
    stock = stock_session(tmp_path / "model.onnx").run(None, {"x": x})[0]
    np.testing.assert_array_equal(open_session(tmp_path / "model.onnx").run(None, {"x": x})[0], stock)


@pytest.mark.skipif(library() is None, reason="no kernels of our own here")
@pytest.mark.parametrize(
    ("shape", "planned"), [((1, 1, 480), True), (("batch", 1, 480), True), (("batch", "tokens", 480), False)]
)
def test_memory_is_planned_where_only_the_number_of_samples_varies(
    shape: tuple[int | str, ...], planned: bool, tmp_path: Path
) -> None:
    """What is planned is kept for each shape, of which decoding has a new one with every token."""
    model = product(480, 24, 32, 4)
    x = next(value for value in model.graph.input if value.name == "x")
    x.CopyFrom(helper.make_tensor_value_info("x", TensorProto.FLOAT, shape))
    onnx.save(model, tmp_path / "model.onnx")
    seen: list[bool] = []
    with with_options(lambda options: seen.append(options.enable_mem_pattern)):
        open_session(tmp_path / "model.onnx")
    assert seen[-1] is planned


@pytest.mark.parametrize("content", [None, b"", b"not a model"])
def test_what_is_not_a_model_has_none(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "model.onnx"
    if content is not None:
        path.write_bytes(content)

    assert own_graph(path) is None


def test_it_was_compiled_wherever_it_can_be() -> None:
    """Without this, kernels that no longer compile would only be missing, and their tests left out."""
    if shutil.which("cc") is None or platform.machine() != "x86_64":
        pytest.skip("no compiler for x86-64 here")
    if " avx2 " not in Path("/proc/cpuinfo").read_text() or "GRAPHOPT_KERNELS" in os.environ:
        pytest.skip("the processor has no AVX2, or another choice was made")

    assert library() is not None


@pytest.mark.skipif(library() is None, reason="no compiler here, or no AVX2")
def test_the_environment_may_name_a_form(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHOPT_KERNELS", "graphopt")
    fastest, known = kernels_name(), library()

    monkeypatch.setenv("GRAPHOPT_KERNELS", "graphopt-avx2")

    assert fastest.startswith("graphopt-")
    assert (kernels_name(), library()) == ("graphopt-avx2", known)


@pytest.mark.skipif(library() is None, reason="no compiler here, or no AVX2")
def test_a_form_that_does_not_run_here_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    flags = set(Path("/proc/cpuinfo").read_text().split())
    needs = {"graphopt-avx-vnni": "avx_vnni", "graphopt-avx512-vnni": "avx512_vnni"}
    lacking = [form for form, flag in needs.items() if flag not in flags]
    if not lacking:
        pytest.skip("the processor has all of them")
    monkeypatch.setenv("GRAPHOPT_KERNELS", lacking[0])

    with pytest.raises(BadInput, match=f"GRAPHOPT_KERNELS={lacking[0]}: this processor lacks"):
        library()


def test_another_word_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHOPT_KERNELS", "mine")

    with pytest.raises(BadInput, match="GRAPHOPT_KERNELS=mine"):
        library()


@pytest.mark.skipif(library() is None, reason="no compiler here, or no AVX2")
@pytest.mark.parametrize("location", ["../model.onnx.data", "/etc/hostname"])
def test_weights_outside_the_folder_are_refused(tmp_path: Path, location: str) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    model = product(512, 24, 128)
    onnx.save(
        model, inner / "model.onnx", save_as_external_data=True, location="model.onnx.data", size_threshold=0
    )
    (inner / "model.onnx.data").rename(tmp_path / "model.onnx.data")
    model = onnx.load(inner / "model.onnx", load_external_data=False)
    for tensor in model.graph.initializer:
        tensor.external_data[0].value = location
    onnx.save(model, inner / "model.onnx")

    with pytest.raises(BadInput, match="cannot load"):
        open_session(inner / "model.onnx")


@pytest.mark.skipif(library() is None, reason="no compiler here, or no AVX2")
def test_weights_that_the_file_lacks_are_refused(tmp_path: Path) -> None:
    onnx.save(
        product(512, 24, 128),
        tmp_path / "model.onnx",
        save_as_external_data=True,
        location="model.onnx.data",
        size_threshold=0,
    )
    data = tmp_path / "model.onnx.data"
    data.write_bytes(data.read_bytes()[:-100])

    with pytest.raises(BadInput, match="cannot load"):
        open_session(tmp_path / "model.onnx")
