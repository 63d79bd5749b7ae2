"""Our products of rounded rows against their definition and onnxruntime's kernels, and when they serve."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from graphopt_targets.cpu.kernels import open_session, session_of, with_own_kernels
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from graphopt.runtime import open_session as stock_session
from tests.passes._compressed import PRODUCT, Compressed, built
from tests.targets.kernels._forms import TWO, in_each
from tests.targets.kernels._row_products import Case

own = in_each(TWO)

CLOSE = 1e-5
"""Of the largest result: float32 sums of up to a few thousand terms, in another order."""


def normal(*shape: int, seed: int = 1) -> Any:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def close(got: Any, wanted: Any, size: float = 0) -> None:
    np.testing.assert_allclose(got, wanted, rtol=0, atol=CLOSE * max(size, np.abs(wanted).max()))


def run(case: Case, x: Any) -> tuple[Any, dict[str, Any]]:
    feeds = case.feeds(x)
    return session_of(case.model()).run(None, feeds)[0], feeds


@own
@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    rows=st.integers(1, 40) | st.sampled_from([47, 48, 49, 100]),
    k=st.integers(1, 130) | st.sampled_from([384, 1000]),
    n=st.integers(1, 100) | st.sampled_from([128, 129, 260]),
    terms=st.sampled_from([1, 2]),
    beside=st.tuples(*[st.booleans()] * 4),
    seed=st.integers(0, 1000),
)
def test_results_are_the_definitions(
    rows: int, k: int, n: int, terms: int, beside: tuple[bool, ...], seed: int
) -> None:
    bias, factors, gelu, norm = beside
    case = Case(k, n, terms, bias, factors, gelu, norm, seed)
    x = normal(1, rows, k, seed=seed)
    got, feeds = run(case, x)

    before_gelu = replace(case, gelu=False, norm=False).expected(feeds)
    close(got, case.expected(feeds), np.abs(before_gelu).max() if gelu else 0)


@own
@pytest.mark.parametrize(("terms", "planted"), [(1, {"off": 1.0}), (2, {"off": 1.0}), (2, {"again": 1.1})])
def test_a_wrong_zero_point_or_scale_is_seen(terms: int, planted: dict[str, float]) -> None:
    case = Case(terms=terms)
    got, feeds = run(case, normal(2, 5, 48))

    close(got, case.expected(feeds))
    with pytest.raises(AssertionError):
        close(got, case.expected(feeds, **planted))


@own
@pytest.mark.parametrize("terms", [1, 2])
@pytest.mark.parametrize("k", [384, 100])
def test_onnxruntimes_kernels_lose_more(terms: int, k: int, tmp_path: Path) -> None:
    case = Case(k, 97, terms, bias=True)
    onnx.save(case.model(), tmp_path / "model.onnx")
    x = normal(2, 20, k) * np.geomspace(0.1, 10, 20, dtype=np.float32)[:, None]
    constants = case.constants
    exact = x.astype(float) @ (constants["w"] * constants["scales"].astype(float)) + constants["b"]

    errors = [
        np.square(session.run(None, {"x": x})[0] - exact).mean() ** 0.5
        for session in (stock_session(tmp_path / "model.onnx"), open_session(tmp_path / "model.onnx"))
    ]

    assert errors[1] < errors[0]
    assert errors[0] < 0.01 * exact.std(), "else the two are not one product"


@own
@pytest.mark.parametrize("terms", [1, 2])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("norm", [False, True])
def test_what_is_no_number_stays_one_and_in_its_row(terms: int, bad: float, norm: bool) -> None:
    case = Case(terms=terms, bias=True, norm=norm)
    x = normal(1, 7, 48)
    x[0, 3, 17] = bad

    got, feeds = run(case, x)

    others = [i for i in range(7) if i != 3]
    assert not np.isfinite(got[0, 3]).any()
    wanted = case.expected({name: array[:, others] for name, array in feeds.items()})
    close(got[:, others], wanted)


@own
@pytest.mark.parametrize("terms", [1, 2])
def test_zeros_the_smallest_and_the_largest_numbers(terms: int) -> None:
    case = Case(terms=terms)
    x = normal(1, 5, 48)
    x[0, 0] = 0
    x[0, 1] = np.abs(x[0, 1])
    x[0, 2] *= np.float32(1e-30)
    x[0, 3] *= np.float32(1e-41)
    x[0, 4] *= np.float32(1e36) / np.abs(x[0, 4]).max()

    got, feeds = run(case, x)

    wanted = case.expected(feeds)
    for row in (1, 2, 4):
        close(got[0, row] / np.abs(wanted[0, row]).max(), wanted[0, row] / np.abs(wanted[0, row]).max())
    assert not got[0, [0, 3]].any()


@own
@pytest.mark.parametrize("shape", [(48,), (0, 48), (5, 48), (2, 1, 3, 48), (2, 0, 48)])
@pytest.mark.parametrize("terms", [1, 2])
def test_any_number_of_dimensions(shape: tuple[int, ...], terms: int) -> None:
    case = Case(terms=terms)
    model = case.model()
    model.graph.input[0].type.tensor_type.ClearField("shape")
    del model.graph.value_info[:]
    x = normal(*shape)

    got = session_of(model).run(None, {"x": x})[0]

    assert got.shape == (*shape[:-1], 40)
    if x.size:
        close(got, case.expected({"x": x}))


@own
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("rows", [1, 10, 300])
def test_results_do_not_depend_on_threads(rows: int, threads: int) -> None:
    case = Case(64, 300, norm=True)
    feeds = case.feeds(normal(1, rows, 64))
    one = session_of(case.model(), threads=1).run(None, feeds)[0]

    np.testing.assert_array_equal(session_of(case.model(), threads=threads).run(None, feeds)[0], one)


@own
def test_a_residual_of_another_shape_is_refused() -> None:
    case = Case(norm=True)
    feeds = case.feeds(normal(2, 3, 48))

    with pytest.raises(Exception, match="residual is not of the product's shape"):
        session_of(case.model()).run(None, feeds | {"r": feeds["r"][:1]})


def operators(model: onnx.ModelProto) -> list[str]:
    with_own_kernels(model)
    return [node.op_type for node in model.graph.node]


def test_what_quantize_dynamic_writes_becomes_one_node(tmp_path: Path) -> None:
    w = normal(96, 40)
    made = Compressed(built(PRODUCT, {"w": w}, n=40, k=96), "quantize-dynamic", tmp_path, scale="row")

    assert operators(onnx.load(made.path)) == ["RowProduct"]


@pytest.mark.parametrize("terms", [1, 2])
def test_what_stands_beside_it_joins(terms: int) -> None:
    model = Case(terms=terms, bias=True, factors=True, gelu=True, norm=True).model()

    assert operators(model) == ["RowProduct"]
    (node,) = model.graph.node
    assert list(node.input) == ["x0", "w", "scales", "b", "f", "r", "gain", "shift"]
    says = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    assert says == {"K": 48, "N": 40, "terms": terms, "gelu": 1, "epsilon": pytest.approx(1e-5)}


def test_what_others_use_stays_beside_it() -> None:
    model = Case(bias=True, gelu=True).model()
    model.graph.node.append(helper.make_node("Neg", ["biased"], ["other"]))
    model.graph.output.append(helper.make_tensor_value_info("other", TensorProto.FLOAT, None))

    assert operators(model) == ["RowProduct", "Gelu", "Identity", "Neg"]


def node_of(model: onnx.ModelProto, output: str) -> onnx.NodeProto:
    return next(node for node in model.graph.node if output in node.output)


def replaced(name: str, value: Any) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        (tensor,) = (t for t in model.graph.initializer if t.name == name)
        tensor.CopyFrom(numpy_helper.from_array(value, name))

    return change


def rewired(output: str, place: int, name: str) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        node_of(model, output).input[place] = name

    return change


@pytest.mark.parametrize(
    "change",
    [
        replaced("tiny", np.array(1.0, np.float32)),
        replaced("tiny", np.array([1e-30, 1e-30], np.float32)),
        replaced("last", np.array([-2])),
        replaced("w", np.zeros((48, 40), np.uint8)),
        replaced("scales", np.ones(1, np.float32)),
        rewired("product", 1, "s"),
        rewired("even", 1, "largest"),
        rewired("entries", 0, "r"),
        rewired("total", 2, "q"),
        rewired("both", 0, "tiny"),
    ],
)
def test_what_is_something_else_stays(change: Callable[[onnx.ModelProto], None]) -> None:
    model = Case(norm=True).model()
    change(model)

    assert "MatMulInteger" in operators(model)


@pytest.mark.parametrize(
    "change",
    [
        rewired("left", 1, "x"),
        rewired("back", 1, "s2"),
        rewired("left", 0, "back"),
        rewired("both2", 1, "b"),
        rewired("total2", 2, "z"),
    ],
)
def test_two_products_that_are_something_else_stay(change: Callable[[onnx.ModelProto], None]) -> None:
    model = Case(terms=2, bias=True).model()
    change(model)

    assert "MatMulInteger" in operators(model)


@pytest.mark.parametrize("name", ["w", "scales"])
def test_what_a_caller_may_replace_stays(name: str) -> None:
    model = Case().model()
    model.graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))

    assert "MatMulInteger" in operators(model)


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        (rewired("sum", 1, "gain"), "LayerNormalization"),
        (rewired("active", 0, "product"), "Add"),
        (rewired("y", 2, "x0"), "LayerNormalization"),
        (rewired("x", 1, "tiny"), "Mul"),
    ],
)
def test_what_does_not_fit_beside_it_stays(change: Callable[[onnx.ModelProto], None], kept: str) -> None:
    model = Case(bias=True, factors=True, gelu=True, norm=True).model()
    change(model)
    if kept == "Add":
        model.graph.output.append(helper.make_tensor_value_info("biased", TensorProto.FLOAT, None))

    got = operators(model)

    assert "RowProduct" in got
    assert kept in got


def test_an_approximate_gelu_stays() -> None:
    model = Case(gelu=True).model()
    node_of(model, "active").attribute.append(helper.make_attribute("approximate", "tanh"))

    assert operators(model) == ["RowProduct", "Gelu", "Identity"]


def test_a_norm_along_another_axis_stays() -> None:
    model = Case(norm=True).model()
    node_of(model, "y").attribute.append(helper.make_attribute("axis", 1))

    assert operators(model) == ["RowProduct", "Sum", "LayerNormalization"]


def test_one_scale_for_a_whole_tensor_stays_onnxruntimes() -> None:
    model = Case().model()
    node_of(model, "q").input[0] = "x"
    node_of(model, "y").input[0] = "scaled"

    assert "MatMulInteger" in operators(model)
