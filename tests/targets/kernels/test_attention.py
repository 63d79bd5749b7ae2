"""Our attention over a cache against the definition, and against onnxruntime's kernel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from graphopt_targets.cpu.kernels import open_session, session_of, with_own_kernels
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.runtime import open_session as stock_session
from tests.targets.kernels._attention import Case, attention, expected, inputs
from tests.targets.kernels._forms import TWO, in_each

own = in_each(TWO)
CLOSE = 2e-6
"""Of the largest result: float32 sums of up to some hundreds of terms, in another order."""


def close(got: Any, wanted: Any, of: float = CLOSE) -> None:
    np.testing.assert_allclose(got, wanted, rtol=0, atol=of * np.abs(wanted).max())


def check(case: Case) -> None:
    model, feeds = attention(case), inputs(case)
    wanted = expected(case, model, feeds)
    y, keys, values = session_of(model).run(None, feeds)
    from_caches = expected(case, attention(case), feeds, (keys, values))

    assert keys.shape == values.shape
    assert keys.shape[2] == max(case.total, feeds["past_key"].shape[2])
    for text, (past, tokens) in enumerate(zip(case.past, case.tokens, strict=True)):
        _, right_keys, right_values = wanted[text]
        if tokens:
            close(y[text, :tokens], from_caches[text][0])
        assert not y[text, tokens:].any()
        for cache, one in ((keys, right_keys), (values, right_values)):
            here = case.levels(cache[text, :, : past + tokens])
            if case.bits < 32:
                assert np.abs(here.astype(int) - one).max() <= 1, "a tie may be rounded either way"
                assert (here != one).sum() <= 2 + here.size / 1000
            else:
                close(here, one)


@own
@pytest.mark.parametrize("bits", [32, 8, 4])
@settings(max_examples=80, deadline=None, derandomize=True)
@given(data=st.data())
def test_results_are_the_definitions(bits: int, data: st.DataObject) -> None:
    kv_heads = data.draw(st.integers(1, 3))
    size = data.draw(st.sampled_from([16, 32, 48, 64, 80, 128, 256]))
    batch = data.draw(st.integers(1, 3))
    tokens = data.draw(st.lists(st.integers(0, 5) | st.integers(20, 90), min_size=batch, max_size=batch))
    past = [data.draw(st.integers(int(t == 0), 200)) for t in tokens]
    if not any(tokens):
        tokens[0] = 1
    check(
        Case(
            past=tuple(past),
            tokens=tuple(tokens),
            heads=kv_heads * data.draw(st.sampled_from([1, 2, 3, 7])),
            kv_heads=kv_heads,
            size=size,
            packed=data.draw(st.booleans()),
            half=data.draw(st.sampled_from([0, size // 2, size // 4, 3])),
            window=data.draw(st.none() | st.integers(1, 150)),
            bias=data.draw(st.none() | st.tuples(st.integers(0, 1), st.integers(0, 1))),
            sink=data.draw(st.booleans()),
            bits=bits,
            room=data.draw(st.sampled_from([0, 1, 70])),
            scale=data.draw(st.none() | st.just(0.04)),
            cap=data.draw(st.just(0.0) | st.floats(0.5, 30)),
            interleaved=data.draw(st.booleans()),
            seed=data.draw(st.integers(0, 99)),
        )
    )


SAME = [
    Case(),
    Case(past=(100,), tokens=(1,)),
    Case(past=(0,), tokens=(150,), packed=False),
    Case(past=(130,), tokens=(90,), heads=9, kv_heads=3, size=64, bias=(1, 0)),
    Case(past=(90, 10), tokens=(20, 7), bias=(1, 0)),
    Case(past=(90, 10), tokens=(1, 1), bias=(0, 1), sink=True),
    Case(past=(70,), tokens=(40,), window=10),
    Case(past=(70,), tokens=(1,), window=33),
    Case(past=(70,), tokens=(9,), half=8, scale=0.3),
    Case(past=(70,), tokens=(9,), bits=8),
    Case(past=(200,), tokens=(1,), bits=8, room=50),
    Case(past=(70,), tokens=(9,), bits=4),
    Case(past=(200,), tokens=(1,), bits=4, room=50),
    Case(past=(90, 10), tokens=(40, 7), bits=4, bias=(1, 0)),
    Case(past=(70,), tokens=(20,), cap=2.0, bias=(0, 0)),
    Case(past=(70,), tokens=(20,), interleaved=True),
]


@own
@pytest.mark.parametrize("case", SAME, ids=str)
def test_onnxruntimes_kernel_says_the_same(case: Case, tmp_path: Path) -> None:
    model, feeds = attention(case), inputs(case)
    onnx.save(model, tmp_path / "model.onnx")

    stock = stock_session(tmp_path / "model.onnx").run(None, feeds)
    ours = open_session(tmp_path / "model.onnx").run(None, feeds)

    for text, (past, tokens) in enumerate(zip(case.past, case.tokens, strict=True)):
        close(ours[0][text, :tokens], stock[0][text, :tokens])
        for got, wanted in zip(ours[1:], stock[1:], strict=True):
            close(got[text, :, : past + tokens], wanted[text, :, : past + tokens])
    assert not np.array_equal(ours[0], stock[0]), "the sums are in another order: else both are one kernel"


@own
@pytest.mark.parametrize("tokens", [1, 40])
def test_results_do_not_depend_on_threads(tokens: int) -> None:
    case = Case(past=(150,), tokens=(tokens,), heads=12, kv_heads=3)
    one = session_of(attention(case), threads=1).run(None, inputs(case))

    for threads in (3, 8):
        for got, wanted in zip(
            session_of(attention(case), threads=threads).run(None, inputs(case)), one, strict=True
        ):
            np.testing.assert_array_equal(got, wanted)


@own
@pytest.mark.parametrize("tokens", [1, 70])
@pytest.mark.parametrize("bits", [32, 8, 4])
def test_what_lies_in_the_cache_beyond_a_text_is_not_read(tokens: int, bits: int) -> None:
    case = Case(past=(70,), tokens=(tokens,), bits=bits, room=64)
    feeds = inputs(case)
    session = session_of(attention(case))
    clean = session.run(None, feeds)[0]
    for name in ("past_key", "past_value"):
        feeds[name][:, :, 70:] = {32: np.nan, 8: -128, 4: 255}[bits]

    np.testing.assert_array_equal(session.run(None, feeds)[0], clean)


@own
def test_a_row_that_sees_no_number_is_none() -> None:
    case = Case(past=(70,), tokens=(3,), packed=False)
    feeds = inputs(case)
    feeds["query"][0, 1] = np.nan

    y = session_of(attention(case)).run(None, feeds)[0]

    assert np.isfinite(y[0, 0]).all()
    assert np.isnan(y[0, 1]).all()


@own
def test_far_scores_neither_overflow_nor_vanish() -> None:
    case = Case(past=(70,), tokens=(3,), scale=100.0, bias=(0, 0))
    model, feeds = attention(case), inputs(case)
    feeds["bias"][..., 5:40] = -1e30
    ((wanted, _, _),) = expected(case, model, feeds)

    np.testing.assert_allclose(session_of(model).run(None, feeds)[0][0], wanted, atol=1e-3)


@own
@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("valid", [-1], "padded on the right"),
        ("valid", [4], "do not fit the tokens"),
        ("last", [-1], "do not fit the tokens"),
        ("last", [60], "does not fit the cache"),
        ("last", [2**31 - 1], "fit"),
        ("places", [[0, 1, 512]], "beyond cos_cache"),
        ("places", [[-1, 1, 2]], "beyond cos_cache"),
        ("places", [[1, 2]], "position_ids"),
        ("bias", np.zeros((1, 1, 3, 7), np.float32), "shorter than the keys"),
        ("bias", np.zeros((1, 3, 3, 8), np.float32), "attention_bias is not"),
        ("query", np.zeros((1, 3, 255), np.float32), "heads' width"),
        ("past_value", np.zeros((1, 2, 4, 32), np.float32), "the cache is not"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(name: str, value: Any, message: str) -> None:
    case = Case(bias=(0, 0))
    feeds = inputs(case)
    feeds[name] = np.asarray(value, feeds[name].dtype)

    with pytest.raises(Exception, match=message):
        session_of(attention(case)).run(None, feeds)


def operators(model: onnx.ModelProto) -> list[tuple[str, str]]:
    with_own_kernels(model)
    return [(node.domain, node.op_type) for node in model.graph.node]


@pytest.mark.parametrize("case", [Case(), Case(packed=False, half=0, sink=True, window=3)], ids=str)
def test_what_is_served(case: Case) -> None:
    assert operators(attention(case)) == [("graphopt", "GroupQueryAttention")]


@pytest.mark.parametrize("bits", [8, 4])
def test_a_cache_of_integers_is_served(bits: int) -> None:
    assert operators(attention(Case(bits=bits))) == [("graphopt", f"GroupQueryAttentionInt{bits}")]


def test_a_cache_whose_bits_are_not_its_types_is_not() -> None:
    model = attention(Case(bits=8), kv_cache_bit_width=4)

    assert operators(model) == [("com.microsoft", "GroupQueryAttention")]


@pytest.mark.parametrize(
    "changes",
    [
        {"smooth_softmax": 1},
        {"causal": 0},
        {"sliding_window_cache": 1, "local_window_size": 4},
        {"num_heads": 3},
        {"num_heads": "many"},
        {"kv_cache_bit_width": 4, "k_quant_type": "PER_CHANNEL", "v_quant_type": "PER_CHANNEL"},
        {"k_quant_type": "PER_TENSOR"},
        {"something_new": 1},
    ],
    ids=str,
)
def test_what_is_not_served(changes: dict[str, Any]) -> None:
    assert operators(attention(Case(), **changes)) == [("com.microsoft", "GroupQueryAttention")]


@pytest.mark.parametrize("size", [8, 40, 272])
def test_heads_of_other_sizes_are_not(size: int) -> None:
    assert operators(attention(Case(size=size, half=0))) == [("com.microsoft", "GroupQueryAttention")]


@pytest.mark.parametrize("place", [14, 15])
def test_norms_inside_are_not(place: int) -> None:
    model = attention(Case())
    model.graph.node[0].input[place] = "cos"

    assert operators(model) == [("com.microsoft", "GroupQueryAttention")]


@pytest.mark.parametrize("name", ["past_key", "past_value"])
def test_a_cache_of_another_type_is_not(name: str) -> None:
    model = attention(Case())
    (value,) = (v for v in model.graph.input if v.name == name)
    value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16

    assert operators(model) == [("com.microsoft", "GroupQueryAttention")]


def test_tables_that_are_computed_are_not() -> None:
    model = attention(Case())
    model.graph.node[0].input[7] = "computed"

    assert operators(model) == [("com.microsoft", "GroupQueryAttention")]
