"""Our convolution of integers against its definition and onnxruntime's kernel, and when it serves."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from graphopt_targets.cpu.kernels import convolves, library, open_session, session_of
from graphopt_targets.cpu.kernels._convolution import with_own_convolutions
from graphopt_targets.cpu.kernels._loaded import has_integer_convolutions, loaded_graph
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from graphopt import BadInput
from graphopt.runtime import open_session as stock_session
from graphopt.runtime import session_of as stock_session_of
from graphopt.runtime import session_options
from tests.targets.kernels._convolutions import AFTER, Case

pytestmark = pytest.mark.skipif(not convolves(), reason="no compiler here, or no AVX512-VNNI")


def handed_over(model: onnx.ModelProto) -> list[str]:
    """The types of the operators that run."""
    loaded = loaded_graph(model.SerializeToString(), Path(str(library())), None)
    assert loaded is not None
    with_own_convolutions(loaded)
    return [node.op_type for node in loaded.graph.node]


def stock(model: onnx.ModelProto, x: Any) -> Any:
    return stock_session_of(model.SerializeToString()).run(None, {"x": x})[0]


def own(model: onnx.ModelProto, x: Any, threads: int | None = None) -> Any:
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    return session_of(copy, threads=threads).run(None, {"x": x})[0]


def pairs(low: int, high: int) -> st.SearchStrategy[tuple[int, int]]:
    return st.tuples(st.integers(low, high), st.integers(low, high))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    channels=st.integers(1, 20) | st.sampled_from([31, 64, 65, 130]),
    outputs=st.integers(1, 40) | st.sampled_from([48, 64, 97, 130]),
    depthwise=st.booleans(),
    kernel=pairs(1, 5),
    strides=pairs(1, 3),
    dilations=pairs(1, 2),
    pads=st.tuples(*[st.integers(0, 2)] * 4),
    sizes=st.tuples(st.integers(1, 3), st.integers(1, 30), st.integers(1, 30)),
    zeros=pairs(0, 255),
    y_scale=st.sampled_from([0.05, 0.05, 1e-12, 7.0]),
    bias=st.booleans(),
    after=st.sampled_from(list(AFTER)),
    seed=st.integers(0, 1000),
)
def test_results_are_the_definitions_and_those_of_onnxruntimes_kernel(
    channels: int,
    outputs: int,
    depthwise: bool,
    kernel: tuple[int, int],
    strides: tuple[int, int],
    dilations: tuple[int, int],
    pads: tuple[int, int, int, int],
    sizes: tuple[int, int, int],
    zeros: tuple[int, int],
    y_scale: float,
    bias: bool,
    after: str,
    seed: int,
) -> None:
    """To the bit: both add integers, and multiply and round alike."""
    group = channels if depthwise else 1
    case = Case(channels, channels if depthwise else outputs, group, kernel, strides, dilations, pads)
    case = replace(case, x_zero=zeros[0], y_zero=zeros[1], y_scale=y_scale, bias=bias, seed=seed)
    for size, axis in ((sizes[1], 0), (sizes[2], 1)):
        assume(size + pads[axis] + pads[axis + 2] > (kernel[axis] - 1) * dilations[axis])
    x = case.images(*sizes)
    assert "Convolution" in handed_over(case.model())
    np.testing.assert_array_equal(own(case.model(), x), case.expected(x).astype(np.float32))

    model = replace(case, after=after).model()
    np.testing.assert_array_equal(own(model, x), stock(model, x))
    assert not {"QLinearConv", "QLinearSigmoid", "QLinearLeakyRelu", "QLinearMul"} & set(handed_over(model))


@pytest.mark.parametrize("case", [Case(), Case(group=8)], ids=["dense", "depthwise"])
@pytest.mark.parametrize(
    "planted",
    [{"xz": np.uint8(112)}, {"yz": np.uint8(99)}, {"ws": "half"}, {"b": "half"}, {"w": "turned"}],
    ids=lambda planted: next(iter(planted)),
)
def test_a_wrong_constant_is_seen(case: Case, planted: dict[str, Any]) -> None:
    x, (name, value) = case.images(1, 9, 9), next(iter(planted.items()))
    true = case.constants()[name]
    wrong = true // 2 if value == "half" and name == "b" else true / 2 if value == "half" else value
    if name == "w":
        wrong = true[..., ::-1]
    with pytest.raises(AssertionError):
        np.testing.assert_array_equal(own(case.model(), x), case.expected(x, **{name: np.asarray(wrong)}))


@pytest.mark.parametrize(
    ("case", "sizes"),
    [
        (Case(64, 256, kernel=(1, 1)), (1, 40, 40)),
        (Case(512, 512, pads=(1, 1, 1, 1)), (1, 7, 7)),
        (Case(3, 64, kernel=(7, 7), strides=(2, 2), pads=(3, 3, 3, 3)), (2, 64, 64)),
        (Case(256, 256, 256, kernel=(5, 5), pads=(2, 2, 2, 2)), (1, 14, 14)),
        (Case(128, 24, pads=(1, 1, 1, 1)), (1, 3, 600)),
    ],
    ids=["pointwise", "heavy", "first", "depthwise", "wider than a task's room"],
)
def test_tasks_of_several_threads_are_the_same(case: Case, sizes: tuple[int, int, int]) -> None:
    x = case.images(*sizes)
    for after in ("", "silu"):
        model = replace(case, after=after).model()
        wanted = stock(model, x)
        for threads in (1, 2, 3):
            np.testing.assert_array_equal(own(model, x, threads), wanted)


def test_what_is_used_beside_is_no_part_of_a_table() -> None:
    """Of two LeakyRelu one after another the first one's result is wanted, too, then the convolution's."""
    x = Case().images(1, 6, 6)
    for beside, left in (("gd", 1), ("c", 2)):
        model = Case(after="leaky twice").model()
        other = helper.make_tensor_value_info(beside, TensorProto.FLOAT, ["N", 8, "I", "J"])
        model.graph.output.append(other)
        copy = onnx.ModelProto.FromString(model.SerializeToString())
        got = session_of(copy).run(None, {"x": x})
        for one, other in zip(
            got, stock_session_of(model.SerializeToString()).run(None, {"x": x}), strict=True
        ):
            np.testing.assert_array_equal(one, other)
        assert handed_over(model).count("QLinearLeakyRelu") == left


def test_its_result_has_a_rank() -> None:
    """onnxruntime infers sizes from it, as a DETR resizes a mask to them, and refuses what are none."""
    model, x = Case().model(), Case().images(1, 6, 6)
    model.graph.initializer.append(numpy_helper.from_array(np.asarray([1, 8]), "outer"))
    model.graph.node.extend(
        [
            helper.make_node("Shape", ["y"], ["inner"], start=2, end=4),
            helper.make_node("Concat", ["outer", "inner"], ["sizes"], axis=0),
            helper.make_node("Resize", ["x", "", "", "sizes"], ["r"], mode="nearest"),
        ]
    )
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("r", TensorProto.FLOAT, None))
    np.testing.assert_array_equal(own(model, x), stock(model, x))
    assert "Convolution" in handed_over(model)


@pytest.mark.parametrize(
    "model",
    [
        Case(8, 8, 2).model(),
        Case().model(wz=np.ones(8, np.int8)),
        Case().model(ws=np.float32(0.01), wz=np.int8(0), bs=np.float32(4e-4), bz=np.int32(0)),
        Case().model(w=np.ones((8, 8, 3, 3), np.uint8), wz=np.zeros(8, np.uint8)),
    ],
    ids=["groups", "zero points of weights", "one scale", "unsigned weights"],
)
def test_what_onnxruntime_keeps(model: onnx.ModelProto) -> None:
    assert "Convolution" not in handed_over(model)
    x = Case().images(1, 9, 9)
    np.testing.assert_array_equal(own(model, x), stock(model, x))


def test_signed_activations_are_unsigned_once_loaded() -> None:
    """onnxruntime 1.32 makes them so on x86-64."""
    model, x = Case().model(xz=np.int8(-3), yz=np.int8(0)), Case().images(1, 9, 9)
    assert has_integer_convolutions(model.graph)
    assert "Convolution" in handed_over(model)
    np.testing.assert_array_equal(own(model, x), stock(model, x))


def test_weights_that_a_caller_can_replace_stay() -> None:
    model = Case().model()
    model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.INT8, [8, 8, 3, 3]))
    assert "Convolution" not in handed_over(model)


def saved(case: Case, folder: Path) -> Path:
    """With its weights in a file beside it."""
    model = case.model()
    onnx.save(
        model, folder / "model.onnx", save_as_external_data=True, location="weights", size_threshold=100
    )
    return folder / "model.onnx"


def test_a_package_keeps_its_weights_in_their_file(tmp_path: Path) -> None:
    case = Case(16, 24)
    path, x = saved(case, tmp_path), case.images(1, 12, 12)
    options = session_options(threads=1)
    options.enable_profiling = True
    options.profile_file_prefix = str(tmp_path / "calls")
    session = open_session(path, options=options)

    np.testing.assert_array_equal(session.run(None, {"x": x})[0], stock_session(path).run(None, {"x": x})[0])
    calls = Path(session.end_profiling()).read_text()
    assert '"Convolution"' in calls
    assert "QLinearConv" not in calls


def test_a_damaged_package_fails_as_it_did(tmp_path: Path) -> None:
    path = saved(Case(16, 24), tmp_path)
    (tmp_path / "weights").write_bytes(b"short")
    with pytest.raises(BadInput) as ours:
        open_session(path)
    with pytest.raises(BadInput) as theirs:
        stock_session(path)
    assert str(ours.value).partition(":")[0] == str(theirs.value).partition(":")[0]


def test_onnxruntimes_kernels_where_they_are_wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, x = saved(Case(), tmp_path), Case().images(1, 9, 9)
    expected = stock_session(path).run(None, {"x": x})[0]
    plain = session_options()
    plain.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    for options, kernels in ((None, "onnxruntime"), (plain, "graphopt"), (None, "graphopt-avx2")):
        monkeypatch.setenv("GRAPHOPT_KERNELS", kernels)
        got = open_session(path, options=options).run(None, {"x": x})[0]
        np.testing.assert_allclose(got, expected, atol=Case().y_scale * 1.01)


def test_without_a_folder_for_files_onnxruntimes_kernel_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, x = saved(Case(), tmp_path), Case().images(1, 9, 9)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    model = onnx.load(path)
    assert loaded_graph(model.SerializeToString(), Path(str(library())), None) is None
    expected = stock_session(path).run(None, {"x": x})[0]
    np.testing.assert_array_equal(open_session(path).run(None, {"x": x})[0], expected)


def test_what_is_seen_before_anything_is_loaded() -> None:
    assert has_integer_convolutions(Case().model().graph)
    assert not has_integer_convolutions(
        Case().model(w=np.ones((8, 8, 3, 3), np.uint8), wz=np.zeros(8, np.uint8)).graph
    )
    empty = Case().model()
    for node in empty.graph.node:
        del node.input[:]
    assert not has_integer_convolutions(empty.graph)
    floats = Case().model()
    for node in floats.graph.node:
        if node.op_type == "Conv":
            node.input[1] = "other"
    floats.graph.initializer.append(numpy_helper.from_array(np.ones((8, 8, 3, 3), np.float32), "other"))
    assert not has_integer_convolutions(floats.graph)
