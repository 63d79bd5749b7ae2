"""Our kernels that enlarge, join and pool pictures of integers against onnxruntime's, and when they serve."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from graphopt_targets.cpu.kernels import convolves, library, session_of
from graphopt_targets.cpu.kernels._loaded import loaded_graph
from graphopt_targets.cpu.kernels._session import with_own_pictures
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from graphopt.runtime import session_of as stock_session_of
from tests.targets.kernels._pictures import Case, there_and_back

pytestmark = pytest.mark.skipif(not convolves(), reason="no compiler here, or no AVX512-VNNI")

FACTORS = (2.0, 2.0)
RESIZED = f'r = Resize<mode = "linear">(c, , factors) {there_and_back("r", "t", "m")}'
ALONE = f"{RESIZED} m = Identity(t)"
JOINED = f"{RESIZED} j = Concat<axis = 1>(o, t) {there_and_back('j', 'm', 'm')} used = Identity(o)"
BEHIND = f"{RESIZED} j = Concat<axis = 1>(t, o) {there_and_back('j', 'm', 'm')}"
POOLED = """
    m = MaxPool<kernel_shape = [{}, {}], strides = [{}, {}], dilations = [{}, {}], pads = [{}, {}, {}, {}]>(c)
"""


def operators(model: onnx.ModelProto) -> list[str]:
    """The types of those that run."""
    loaded = loaded_graph(model.SerializeToString(), Path(str(library())), None)
    assert loaded is not None
    with_own_pictures(loaded)
    return [node.op_type for node in loaded.graph.node]


def factors(*pair: float) -> dict[str, Any]:
    return {"factors": np.asarray([1, 1, *pair], np.float32)}


def assert_same(model: onnx.ModelProto, feeds: dict[str, Any], threads: int | None = None) -> None:
    """To the bit."""
    wanted = stock_session_of(model.SerializeToString()).run(None, feeds)[0]
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    np.testing.assert_array_equal(session_of(copy, threads=threads).run(None, feeds)[0], wanted)


def kinds() -> st.SearchStrategy[tuple[float, int]]:
    return st.tuples(st.sampled_from([0.05, 0.0511239916, 0.03, 1.7, 1e-7]), st.integers(0, 255))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    between=st.sampled_from([ALONE, JOINED, BEHIND]),
    channels=st.integers(1, 20) | st.sampled_from([32, 48, 65]),
    others=st.integers(1, 20) | st.sampled_from([64, 65]),
    scaled=st.tuples(*[st.sampled_from([2.0, 2.0, 1.0, 1.5, 3.0, 4.7])] * 2),
    sizes=st.tuples(st.integers(1, 3), st.integers(1, 24), st.integers(1, 24)),
    kinds=st.tuples(kinds(), kinds(), kinds()),
    alike=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_what_is_enlarged_is_onnxruntimes(
    between: str,
    channels: int,
    others: int,
    scaled: tuple[float, float],
    sizes: tuple[int, int, int],
    kinds: tuple[tuple[float, int], ...],
    alike: bool,
    seed: int,
) -> None:
    a, b, m = kinds
    joined = channels + (0 if between == ALONE else others)
    case = Case(between, channels, others, joined, a, m if alike else b, m, seed)
    model = case.model(**factors(*scaled))
    if scaled != (1, 1):
        assert "Enlarge" in operators(model)
        assert not {"Resize", "QLinearConcat"} & set(operators(model))
    images, *size = sizes
    large = [int(np.float32(f) * np.float32(n)) for f, n in zip(scaled, size, strict=True)]
    assert_same(model, case.inputs(sizes, (images, *large)))


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_tasks_of_several_threads_are_the_same(threads: int) -> None:
    case = Case(JOINED, 32, 16, 48)
    assert_same(case.model(**factors(2, 2)), case.inputs((2, 64, 64), (2, 128, 128)), threads)
    case = Case(POOLED.format(2, 2, 2, 2, 1, 1, 0, 0, 0, 0), 64, joined=64)
    assert_same(case.model(), case.inputs((2, 64, 64), (2, 8, 8)), threads)


def test_halves_are_rounded_to_even_ones() -> None:
    """Every sum of sixteenths lies between two integers of twice the scale somewhere."""
    case = Case(ALONE, 16, joined=16, a=(0.0625, 0), m=(0.125, 0))
    assert_same(case.model(**factors(2, 2)), case.inputs((1, 40, 40), (1, 8, 8)))


@pytest.mark.parametrize(
    ("between", "change"),
    [
        (JOINED.replace("linear", "nearest"), {}),
        (JOINED.replace('"linear"', '"linear", coordinate_transformation_mode = "align_corners"'), {}),
        (JOINED.replace('"linear"', '"linear", antialias = 1'), factors(0.5, 0.5)),
        (JOINED, factors(0.5, 2)),
        (RESIZED + " rr = Relu(r) s = Add(t, rr) " + there_and_back("s", "m", "m"), {}),
    ],
    ids=["nearest", "corners", "smoothed", "smaller", "floats are used beside"],
)
def test_what_onnxruntime_keeps(between: str, change: dict[str, Any]) -> None:
    joined = 8 if "Relu" in between else 24
    case = Case(between, joined=joined)
    wanted = factors(2, 2) | change
    model = case.model(**wanted)
    assert "Enlarge" not in operators(model)
    rows, columns = (int(8 * f) for f in wanted["factors"][2:])
    assert_same(model, case.inputs((1, 8, 8), (1, rows, columns)))


def test_what_is_joined_with_another_scale_stays_apart() -> None:
    """The concatenation rounds to another scale than what was enlarged has, or is one of three."""
    apart = f"{RESIZED} j = Concat<axis = 1>(o, t) {there_and_back('j', 'm', 'b')}"
    three = f"{RESIZED} j = Concat<axis = 1>(o, t, o) {there_and_back('j', 'm', 'm')}"
    for between, joined in ((apart, 24), (three, 40)):
        case = Case(between, joined=joined)
        model = case.model(**factors(2, 2))
        assert {"Enlarge", "QLinearConcat"} <= set(operators(model))
        assert_same(model, case.inputs((1, 8, 8), (1, 16, 16)))


@pytest.mark.parametrize("planted", [{"a": (0.051, 98)}, {"m": (0.03, 32)}, {"b": (0.061, 77)}, {"seed": 1}])
def test_a_wrong_constant_is_seen(planted: dict[str, Any]) -> None:
    case = Case(JOINED, joined=24)
    feeds = case.inputs((1, 9, 9), (1, 18, 18))
    wrong = replace(case, **planted).model(**factors(2, 2))
    own = session_of(wrong).run(None, feeds)[0]
    wanted = stock_session_of(case.model(**factors(2, 2)).SerializeToString()).run(None, feeds)[0]
    assert not np.array_equal(own, wanted)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    channels=st.integers(1, 20) | st.sampled_from([64, 65, 130]),
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    strides=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    dilations=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    pads=st.tuples(*[st.integers(0, 2)] * 4),
    sizes=st.tuples(st.integers(1, 3), st.integers(9, 24), st.integers(9, 24)),
    seed=st.integers(0, 1000),
)
def test_largest_ones_are_onnxruntimes(
    channels: int,
    kernel: tuple[int, int],
    strides: tuple[int, int],
    dilations: tuple[int, int],
    pads: tuple[int, int, int, int],
    sizes: tuple[int, int, int],
    seed: int,
) -> None:
    pads = tuple(min(pad, kernel[i % 2] - 1) for i, pad in enumerate(pads))
    case = Case(POOLED.format(*kernel, *strides, *dilations, *pads), channels, joined=channels, seed=seed)
    model = case.model()
    assert "MaxPool" in operators(model)
    assert "NhwcMaxPool" not in operators(model)
    assert_same(model, case.inputs(sizes, (1, 8, 8)))


def test_largest_ones_with_a_last_part_stay() -> None:
    between = POOLED.format(2, 2, 2, 2, 1, 1, 0, 0, 0, 0).replace("<", "<ceil_mode = 1, ", 1)
    case = Case(between)
    assert "NhwcMaxPool" in operators(case.model())
    assert_same(case.model(), case.inputs((1, 9, 9), (1, 8, 8)))


def floats_first(channels: int, kind: tuple[float, int], seed: int = 0, more: str = "") -> onnx.ModelProto:
    """A convolution of floats that one of integers reads."""
    rng = np.random.default_rng(seed)
    model = onnx.parser.parse_model(f"""
        <ir_version: 10, opset_import: ["" : 18]>
        graph (float[N, 3, H, W] x) => (float[N, 8, K, L] y{", float[N, C, K, L] c" if more else ""}) {{
          p = Conv<pads = [1, 1, 1, 1]>(x, u) {"c = Relu(p)" if more else "c = HardSwish(p)"}
          {there_and_back("c", "m", "m")}
          vd = DequantizeLinear<axis = 0>(v, vs, vz) t = Conv(m, vd) {there_and_back("t", "y", "m")}
        }}
    """)
    held: dict[str, Any] = {
        "u": rng.normal(0, 0.5, (channels, 3, 3, 3)).astype(np.float32),
        "v": rng.integers(-127, 128, (8, channels, 1, 1), np.int8),
        "vs": np.full(8, 0.01, np.float32),
        "vz": np.zeros(8, np.int8),
        "ms": np.float32(kind[0]),
        "mz": np.uint8(kind[1]),
    }
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(a), name) for name, a in held.items())
    return model


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    channels=st.sampled_from([8, 16, 24, 32, 40, 64]),
    kind=kinds(),
    sizes=st.tuples(st.integers(1, 3), st.integers(1, 30), st.integers(1, 30)),
    seed=st.integers(0, 1000),
)
def test_blocks_of_floats_are_rounded_as_onnxruntime_does(
    channels: int, kind: tuple[float, int], sizes: tuple[int, int, int], seed: int
) -> None:
    model = floats_first(channels, kind, seed)
    assert "QuantizeBlocks" in operators(model)
    assert not {"ReorderOutput", "QuantizeLinear"} & set(operators(model))
    x = np.random.default_rng(seed).normal(0, 2, (sizes[0], 3, *sizes[1:])).astype(np.float32)
    assert_same(model, {"x": x})


def test_what_is_no_number_is_rounded_as_onnxruntime_does() -> None:
    x = np.random.default_rng(0).normal(0, 2, (1, 3, 64, 64)).astype(np.float32)
    x[0, 0, ::5, ::3], x[0, 1, 1::7, ::4], x[0, 2, 2::6, ::5] = np.nan, np.inf, -np.inf
    for threads in (1, 2):
        assert_same(floats_first(24, (0.05, 31)), {"x": x}, threads)


def test_floats_that_are_used_beside_stay() -> None:
    model = floats_first(16, (0.05, 31), more="c is wanted, too")
    assert "QuantizeBlocks" not in operators(model)
    assert_same(model, {"x": np.ones((1, 3, 9, 9), np.float32)})


def test_a_wrong_scale_of_blocks_is_seen() -> None:
    x = np.random.default_rng(0).normal(0, 2, (1, 3, 9, 9)).astype(np.float32)
    own = session_of(floats_first(16, (0.0501, 31))).run(None, {"x": x})[0]
    wanted = stock_session_of(floats_first(16, (0.05, 31)).SerializeToString()).run(None, {"x": x})[0]
    assert np.abs(own - wanted).max() > 0.01


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    channels=st.integers(1, 20) | st.sampled_from([33, 64]),
    kind=kinds(),
    sizes=st.tuples(st.integers(1, 3), st.integers(1, 30), st.integers(1, 30)),
    seed=st.integers(0, 1000),
)
def test_planes_of_floats_are_onnxruntimes(
    channels: int, kind: tuple[float, int], sizes: tuple[int, int, int], seed: int
) -> None:
    """Those of m, which is the result here."""
    case = Case("m = Identity(c)", channels, joined=channels, a=kind, seed=seed)
    model = case.model()
    del model.graph.output[0]
    model.graph.output.append(
        helper.make_tensor_value_info("m", TensorProto.FLOAT, ["N", channels, "H", "W"])
    )
    assert "DequantizePlanes" in operators(model)
    for threads in (1, 3):
        assert_same(model, case.inputs(sizes, (1, 1, 1)), threads)


def test_a_wrong_zero_point_of_planes_is_seen() -> None:
    feeds = floats_first(16, (0.05, 31)), {"x": np.ones((1, 3, 9, 9), np.float32)}
    own = session_of(floats_first(16, (0.05, 32))).run(None, feeds[1])[0]
    wanted = stock_session_of(feeds[0].SerializeToString()).run(None, feeds[1])[0]
    assert not np.array_equal(own, wanted)
