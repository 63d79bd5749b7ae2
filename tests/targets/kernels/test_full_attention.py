"""Our attention without a cache against its definition and onnxruntime's kernel, and when it serves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from graphopt_targets.cpu.kernels import library, open_session, session_of, with_own_kernels
from graphopt_targets.cpu.kernels._known import OWN_DOMAIN
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from graphopt.runtime import open_session as stock_session
from graphopt.runtime import session_of as stock_session_of
from graphopt.runtime import session_options
from tests.targets.kernels._forms import TWO, in_each
from tests.targets.kernels._row_products import Case

own = in_each(TWO)

_FLAGS = Path("/proc/cpuinfo")
_HAS_HALVES = _FLAGS.is_file() and "avx512_bf16" in _FLAGS.read_text()


def halves(test: Any) -> Any:
    """Where the form for AVX512 may multiply in bfloat16."""
    skip = pytest.mark.skipif(not _HAS_HALVES, reason="no AVX512-BF16")
    return skip(in_each(TWO[:1])(test))


CLOSE = 1e-5
"""Of the largest result: sums of up to a few hundred products, in another order."""

HIDDEN = float(np.finfo(np.float32).min)
"""What exports add to the scores of padding."""


def attention(
    heads: int = 2,
    size: int = 16,
    *,
    bias: str | None = "B,1,S,S",
    packed: bool = False,
    cross: bool = False,
    **says: Any,
) -> onnx.ModelProto:
    """Attention of rows; `bias` its shape; `packed` from one value; `cross` with T keys."""
    width, keys = heads * size, "T" if cross else "S"
    says = {"q_num_heads": heads, "kv_num_heads": heads, **says}
    inputs = {"q": f"B,S,{width}", "k": f"B,{keys},{width}", "v": f"B,{keys},{width}"}
    nodes = []
    values = []
    if packed:
        nodes = [helper.make_node("Split", ["x", "widths"], ["q", "k", "v"], axis=-1)]
        values = [_info(name, shape) for name, shape in inputs.items()]
        inputs = {"x": f"B,S,{3 * width}"}
    if bias:
        inputs["bias"] = bias
    names = ["q", "k", "v", "bias"] if bias else ["q", "k", "v"]
    nodes.append(helper.make_node("Attention", names, ["y"], **says))
    graph = helper.make_graph(
        nodes,
        "g",
        [_info(name, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.array([width] * 3), "widths")] if packed else [],
        value_info=values,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)


def _info(name: str, shape: str) -> onnx.ValueInfoProto:
    dims = [int(one) if one.isdigit() else one for one in shape.split(",")]
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, dims)


def normal(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def expected(q: Any, k: Any, v: Any, bias: Any, heads: int, scale: float) -> Any:
    def apart(x: Any) -> Any:
        return x.astype(np.float64).reshape(*x.shape[:2], heads, -1).transpose(0, 2, 1, 3)

    scores = apart(q) @ apart(k).swapaxes(-1, -2) * scale + (0 if bias is None else bias.astype(float))
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    y = weights / weights.sum(-1, keepdims=True) @ apart(v)
    return y.transpose(0, 2, 1, 3).reshape(*q.shape)


def close(got: Any, wanted: Any) -> None:
    np.testing.assert_allclose(got, wanted, rtol=0, atol=CLOSE * np.abs(wanted).max())


@own
@settings(max_examples=80, deadline=None, derandomize=True)
@given(
    batch=st.integers(1, 3),
    tokens=st.integers(1, 70) | st.sampled_from([96, 128, 145]),
    keys=st.none() | st.integers(1, 150),
    heads=st.integers(1, 3),
    size=st.sampled_from([16, 32, 48, 64, 256]),
    shape=st.none() | st.tuples(*[st.booleans()] * 3),
    scale=st.none() | st.floats(0.01, 1),
    seed=st.integers(0, 100),
)
def test_results_are_the_definitions(
    batch: int,
    tokens: int,
    keys: int | None,
    heads: int,
    size: int,
    shape: tuple[bool, ...] | None,
    scale: float | None,
    seed: int,
) -> None:
    length, width = keys or tokens, heads * size
    q, k, v = normal(batch, tokens, width, seed=seed), *normal(2, batch, length, width, seed=seed + 1)
    bias, text = None, None
    if shape is not None:
        names = [name if some else "1" for name, some in zip(("B", str(heads), "S"), shape, strict=True)]
        text = ",".join([*names, "T" if keys else "S"])
        sizes = [n if some else 1 for n, some in zip((batch, heads, tokens), shape, strict=True)]
        bias = normal(*sizes, length, seed=seed + 2)
    says = {} if scale is None else {"scale": scale}
    model = attention(heads, size, bias=text, cross=keys is not None, **says)
    feeds = {"q": q, "k": k, "v": v} | ({} if bias is None else {"bias": bias})

    got = session_of(model).run(None, feeds)[0]

    assert [node.domain for node in model.graph.node] == ["graphopt"]
    close(got, expected(q, k, v, bias, heads, np.float32(scale or 1 / np.sqrt(size))))


@own
@pytest.mark.parametrize("tokens", [5, 64, 200])
@pytest.mark.parametrize("per_token", [False, True])
def test_padding_counts_for_nothing(tokens: int, per_token: bool, tmp_path: Path) -> None:
    model = attention(2, 32, bias="B,1,S,S")
    onnx.save(model, tmp_path / "model.onnx")
    q, k, v = normal(3, 3, tokens, 64)
    bias = np.zeros((3, 1, tokens, tokens), np.float32)
    bias[0, ..., 3:] = HIDDEN
    bias[1, ..., : tokens // 2] = HIDDEN
    bias[2] = HIDDEN
    if per_token:
        bias[0, 0, 1, :2] = -1.5
    feeds = {"q": q, "k": k, "v": v, "bias": bias}

    got, stock = (s(tmp_path / "model.onnx").run(None, feeds)[0] for s in (open_session, stock_session))

    close(got[:2], expected(q, k, v, bias, 2, 1 / np.sqrt(32))[:2])
    close(got, stock)
    assert not got[2].any()


@own
@pytest.mark.parametrize("tokens", [7, 100])
def test_heads_side_by_side_in_one_value_are_read_there(tokens: int) -> None:
    model = attention(3, 32, packed=True)
    x, bias = normal(2, tokens, 288), normal(2, 1, tokens, tokens, seed=1)

    got = session_of(model).run(None, {"x": x, "bias": bias})[0]

    assert [(node.op_type, list(node.input)) for node in model.graph.node] == [
        ("Attention", ["x", "", "", "bias"])
    ]
    close(got, expected(*np.split(x, 3, -1), bias, 3, 1 / np.sqrt(32)))


def rounded(model: onnx.ModelProto) -> Any:
    """A session of what `model` is with our kernel, whose rows are said to be of rounded products."""
    assert with_own_kernels(model)
    (node,) = (node for node in model.graph.node if node.domain == OWN_DOMAIN)
    (says,) = (a for a in node.attribute if a.name == "rounded")
    assert says.i == 0
    says.i = 1
    options = session_options()
    options.register_custom_ops_library(str(library()))
    return stock_session_of(model.SerializeToString(), options=options)


def to_bfloat16(x: Any) -> Any:
    """The nearest bfloat16, of two the even one, as float32."""
    bits = x.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)


@halves
@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    batch=st.integers(1, 2),
    tokens=st.integers(1, 70) | st.sampled_from([96, 128, 145]),
    keys=st.integers(1, 48),
    size=st.sampled_from([16, 32, 48, 64, 256]),
    padded=st.booleans(),
    seed=st.integers(0, 100),
)
def test_rows_of_rounded_products_are_multiplied_in_bfloat16(
    batch: int, tokens: int, keys: int, size: int, padded: bool, seed: int
) -> None:
    """Up to 48 keys are looked at together, and weights are of the largest score when rounded."""
    q, k, v = normal(batch, tokens, size, seed=seed), *normal(2, batch, keys, size, seed=seed + 1)
    bias = np.zeros((batch, 1, 1, keys), np.float32)
    if padded:
        bias[..., (keys + 1) // 2 :] = HIDDEN
    scale = np.float32(1 / np.sqrt(size))
    model = attention(1, size, bias="B,1,1,T", cross=True)

    got = rounded(model).run(None, {"q": q, "k": k, "v": v, "bias": bias})[0]

    scores = to_bfloat16(q * scale).astype(float) @ to_bfloat16(k).astype(float).swapaxes(1, 2)
    scores += bias[:, 0].astype(float)
    weights = np.exp(scores - scores.max(-1, keepdims=True)).astype(np.float32)
    wanted = to_bfloat16(weights).astype(float) @ to_bfloat16(v) / weights.sum(-1, keepdims=True)
    # A weight between two numbers may become either: 1/256 of it, of a few.
    np.testing.assert_allclose(got, wanted, rtol=0, atol=np.abs(wanted).max() / 512)
    assert np.sqrt(np.square(got - wanted).mean()) < 1e-4 * np.abs(wanted).max()


@halves
@pytest.mark.parametrize("tokens", [5, 64, 200])
def test_bfloat16_loses_less_than_a_hundredth(tokens: int) -> None:
    q, k, v = normal(3, 2, tokens, 64)
    bias = np.zeros((2, 1, tokens, tokens), np.float32)
    bias[0, ..., 3:] = HIDDEN
    bias[1] = HIDDEN

    got = rounded(attention(2, 32)).run(None, {"q": q, "k": k, "v": v, "bias": bias})[0]

    wanted = expected(q, k, v, bias, 2, 1 / np.sqrt(32))[0]
    assert 1e-5 < np.abs(got[0] - wanted).max() / np.abs(wanted).max() < 0.01
    assert not got[1].any()


@pytest.mark.parametrize("between", [(), ("Sin",)])
def test_rows_are_said_to_be_of_rounded_products_where_they_are(between: tuple[str, ...]) -> None:
    product = Case(n=288).model()
    product.graph.node.pop()
    y = product.graph.output[0]
    y.CopyFrom(_info("product", "B,S,288"))
    for op_type in between:
        product.graph.node.append(helper.make_node(op_type, [y.name], ["other"]))
        y.name = "other"
    packed = attention(3, 32, packed=True, bias=None)
    packed.graph.output[0].CopyFrom(_info("y", "B,S,96"))
    model = onnx.compose.merge_models(product, packed, [(y.name, "x")], prefix2="a/")

    assert with_own_kernels(model)
    assert [node.op_type for node in model.graph.node] == ["RowProduct", *between, "Attention"]
    assert [a.i for a in model.graph.node[-1].attribute if a.name == "rounded"] == [not between]


@own
def test_what_is_no_number_stays_one_and_in_its_row() -> None:
    q, k, v = normal(3, 2, 20, 32)
    q[0, 7, 3] = np.nan
    bias = normal(2, 1, 20, 20)

    got = session_of(attention()).run(None, {"q": q, "k": k, "v": v, "bias": bias})[0]

    wanted = expected(np.nan_to_num(q), k, v, bias, 2, 0.25)
    assert np.isnan(got[0, 7, :16]).all()
    got[0, 7, :16] = wanted[0, 7, :16]
    close(got, wanted)


@own
@pytest.mark.parametrize("shape", [(1, 1, 19, 20), (2, 1, 20, 21), (3, 1, 20, 20)])
def test_a_bias_of_other_sizes_is_refused(shape: tuple[int, ...]) -> None:
    q, k, v = normal(3, 2, 20, 32)

    with pytest.raises(Exception, match="bias is not"):
        session_of(attention()).run(None, {"q": q, "k": k, "v": v, "bias": normal(*shape)})


@pytest.mark.parametrize(
    "says",
    [
        {"is_causal": 1},
        {"softcap": 2.0},
        {"kv_num_heads": 1},
        {"qk_matmul_output_mode": 1},
        {"softmax_precision": 11},
        {"scale": -1.0},
        {"size": 24},
        {"size": 272},
        {"bias": "B,1,S,T"},
        {"bias": "S,S"},
        {"bias": "2,1,S,S"},
    ],
    ids=str,
)
def test_what_stays_onnxruntimes(says: dict[str, Any]) -> None:
    model = attention(**says)

    assert not with_own_kernels(model)


def _outputs(model: onnx.ModelProto) -> None:
    model.graph.node[0].output.extend(["", "", "scores"])


def _cache(model: onnx.ModelProto) -> None:
    model.graph.node[0].input.extend(["past_k", "past_v"])


def _whole_mask(model: onnx.ModelProto) -> None:
    model.graph.input[3].type.tensor_type.elem_type = TensorProto.BOOL


def _other_lengths(model: onnx.ModelProto) -> None:
    model.graph.input[2].type.tensor_type.shape.dim[1].dim_param = "T"


@pytest.mark.parametrize("change", [_outputs, _cache, _whole_mask, _other_lengths])
def test_what_is_something_else_stays(change: Callable[[onnx.ModelProto], None]) -> None:
    model = attention()
    change(model)

    assert not with_own_kernels(model)


@pytest.mark.parametrize("used", ["q", "v"])
def test_parts_that_others_use_are_taken_apart(used: str) -> None:
    model = attention(packed=True)
    model.graph.node.append(helper.make_node("Neg", [used], ["z"]))
    model.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, None))

    assert with_own_kernels(model)
    assert [node.op_type for node in model.graph.node] == ["Split", "Attention", "Neg"]
    assert list(model.graph.node[1].input) == ["q", "k", "v", "bias"]
