"""What the lowering passes rest on: how the runtime's kernels really behave.

The decision that follows from it is docs/decisions/grouped-query-attention.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

Array = np.ndarray[Any, Any]
HEADS, KEY_HEADS, SIZE = 4, 2, 16
SLOTS = [
    *("query", "key", "value", "past_key", "past_value", "seqlens_k", "total_sequence_length"),
    *("cos_cache", "sin_cache", "position_ids", "attention_bias", "head_sink", "k_scale", "v_scale"),
    *("q_norm_weight", "k_norm_weight", "query_seqlens"),
]
INT32 = {"seqlens_k", "total_sequence_length", "query_seqlens"}


def gqa(feeds: dict[str, Array], **attributes: Any) -> list[Array]:
    """The kernel alone: output, present key, present value."""
    names = [name if name in feeds else "" for name in SLOTS]
    kinds = dict.fromkeys(INT32, TensorProto.INT32) | {"position_ids": TensorProto.INT64}
    attributes = {"num_heads": HEADS, "kv_num_heads": KEY_HEADS, **attributes}
    node = helper.make_node(
        "GroupQueryAttention", names, ["y", "k", "v"], domain="com.microsoft", **attributes
    )
    return _run(node, feeds, kinds)


def _run(node: Any, feeds: dict[str, Array], kinds: Mapping[str, int] | None = None) -> list[Array]:
    inputs = [
        helper.make_tensor_value_info(n, (kinds or {}).get(n, TensorProto.FLOAT), [None] * feeds[n].ndim)
        for n in node.input
        if n
    ]
    outputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in node.output if n]
    imports = [helper.make_opsetid("", 23), helper.make_opsetid("com.microsoft", 1)]
    graph = helper.make_graph([node], "kernel", inputs, outputs)
    model = helper.make_model(graph, opset_imports=imports, ir_version=10)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    made = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(made.run(None, {name: feeds[name] for name in node.input if name}))


class Call:
    """A batch of `batch` rows, row i left-padded by 2i, as the masked lowering feeds the kernel."""

    def __init__(
        self, batch: int, new: int, past: int, *, size: int = SIZE, rotated: int | None = None
    ) -> None:
        rng = np.random.default_rng(0)
        total, half = past + new, (rotated or size) // 2

        def normal(*shape: int) -> Array:
            return rng.standard_normal(shape).astype(np.float32)

        self.mask = np.ones((batch, total), np.int64)
        for row in range(batch):
            self.mask[row, : min(2 * row, total - 1)] = 0
        self.positions = np.maximum(np.cumsum(self.mask, 1) - 1, 0)[:, past:]
        angle = np.arange(64)[:, None] * 10.0 ** (-np.arange(half) / half)
        self.q, self.k, self.v = (
            normal(batch, new, HEADS, size),
            *(normal(batch, new, KEY_HEADS, size) for _ in "kv"),
        )
        self.past = normal(batch, KEY_HEADS, past, size), normal(batch, KEY_HEADS, past, size)
        bias = np.where(self.mask == 0, np.float32(-1e30), np.float32(0))[:, None, None]
        self.feeds: dict[str, Array] = {
            "query": np.concatenate([x.reshape(batch, new, -1) for x in (self.q, self.k, self.v)], -1),
            "past_key": self.past[0],
            "past_value": self.past[1],
            "seqlens_k": np.full(batch, total - 1, np.int32),
            "total_sequence_length": np.asarray(total, np.int32),
            "cos_cache": np.cos(angle).astype(np.float32),
            "sin_cache": np.sin(angle).astype(np.float32),
            "position_ids": self.positions,
            "attention_bias": np.repeat(bias, new, 2),
            "query_seqlens": np.full(batch, new, np.int32),
        }

    def without(self, *names: str) -> dict[str, Array]:
        return {name: array for name, array in self.feeds.items() if name not in names}

    def expected(
        self, *, rotate: bool = True, window: int | None = None, softcap: float = 0.0
    ) -> list[Array]:
        """Output rows and keys, computed plainly."""
        q, k, v = (x.transpose(0, 2, 1, 3) for x in (self.q, self.k, self.v))
        if rotate:
            q, k = self._rotated(q), self._rotated(k)
        keys, values = np.concatenate([self.past[0], k], 2), np.concatenate([self.past[1], v], 2)
        group = HEADS // KEY_HEADS
        scores = q @ np.repeat(keys, group, 1).transpose(0, 1, 3, 2) / np.sqrt(q.shape[-1])
        scores = softcap * np.tanh(scores / softcap) if softcap else scores
        total, new = keys.shape[2], q.shape[2]
        distance = np.arange(total - new, total)[:, None] - np.arange(total)
        seen = (distance >= 0) & (distance < (window or total)) & (self.mask[:, None, None] != 0)
        weights = np.exp(np.where(seen, scores, -1e30) - scores.max())
        y = weights / np.maximum(weights.sum(-1, keepdims=True), 1e-30) @ np.repeat(values, group, 1)
        return [y.transpose(0, 2, 1, 3).reshape(*self.q.shape[:2], -1), keys]

    def _rotated(self, x: Array) -> Array:
        cos, sin = (self.feeds[name][self.positions][:, None] for name in ("cos_cache", "sin_cache"))
        half = cos.shape[-1]
        a, b, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
        return np.concatenate([a * cos - b * sin, b * cos + a * sin, rest], -1)

    def errors(self, got: list[Array], **how: Any) -> tuple[float, float]:
        """Largest error of output rows that are tokens, and of keys that are tokens."""
        y, keys = self.expected(**how)
        rows = self.mask[:, -y.shape[1] :] != 0
        slots = self.mask != 0
        return (
            float(np.abs(got[0] - y)[rows].max()),
            float(np.abs(got[1] - keys).transpose(0, 2, 1, 3)[slots].max()),
        )


SHAPES = [(1, 6, 0), (3, 7, 0), (1, 4, 5), (3, 4, 5), (3, 1, 7), (3, 1, 0)]


@pytest.mark.parametrize("shape", SHAPES)
def test_bias_positions_and_both_lengths_are_right_for_every_call(shape: tuple[int, int, int]) -> None:
    call = Call(*shape)
    assert max(call.errors(gqa(call.feeds, do_rotary=1))) < 2e-6


def test_without_query_seqlens_a_padded_first_prompt_spoils_the_cache() -> None:
    """Outputs are right, because all keys of a row are off by the same angle; the next call's are not."""
    call = Call(3, 7, 0)
    output, keys = call.errors(gqa(call.without("query_seqlens"), do_rotary=1))
    assert output < 2e-6
    assert keys > 0.1


def test_without_query_seqlens_a_batch_cannot_continue_by_chunks() -> None:
    with pytest.raises(Exception, match="batch_size must be 1"):
        gqa(Call(3, 4, 5).without("query_seqlens"), do_rotary=1)


def test_without_a_bias_left_padding_is_silently_wrong() -> None:
    call = Call(3, 1, 7)
    assert call.errors(gqa(call.without("attention_bias"), do_rotary=1))[0] > 0.1


def test_lengths_that_make_no_sense_are_refused() -> None:
    feeds = Call(3, 4, 5).feeds
    with pytest.raises(Exception, match=r"query_seqlens\[1\] = -1"):
        gqa({**feeds, "query_seqlens": np.asarray([4, -1, 4], np.int32)}, do_rotary=1)


def test_a_window_counts_the_query_itself() -> None:
    call = Call(1, 6, 5)
    got = gqa(call.feeds, do_rotary=1, local_window_size=3)
    assert call.errors(got, window=3)[0] < 2e-6
    assert call.errors(got, window=4)[0] > 0.01


def test_the_cap_comes_before_the_bias() -> None:
    call = Call(3, 4, 5)
    assert call.errors(gqa(call.feeds, do_rotary=1, softcap=2.0), softcap=2.0)[0] < 2e-6


def test_rows_that_see_nothing_stay_finite() -> None:
    call = Call(3, 7, 0)
    assert np.isfinite(gqa(call.feeds, do_rotary=1)[0]).all()


def test_a_bias_must_have_every_row() -> None:
    call = Call(3, 4, 5)
    with pytest.raises(Exception, match="dimension 2 must be equal to the sequence length"):
        gqa({**call.feeds, "attention_bias": call.feeds["attention_bias"][:, :, :1]}, do_rotary=1)


@pytest.mark.parametrize(
    ("size", "rotated", "problem"),
    [
        (20, None, "head_size must be a multiple of 8"),
        (24, 24, "head_size shall be a multiple of 16"),
        (32, 8, "cos_cache dimension 1 must be"),
        (32, 16, None),
        (48, 32, None),
        (24, None, None),
    ],
)
def test_head_sizes(size: int, rotated: int | None, problem: str | None) -> None:
    call = Call(3, 4, 5, size=size, rotated=rotated)
    tables = ("cos_cache", "sin_cache", "position_ids")
    feeds = call.feeds if rotated else call.without(*tables)
    attributes = {"do_rotary": 1} if rotated else {}
    if problem is not None:
        with pytest.raises(Exception, match=problem):
            gqa(feeds, **attributes)
    else:
        assert max(call.errors(gqa(feeds, **attributes), rotate=rotated is not None)) < 2e-6


def test_a_table_shorter_than_the_padded_length_is_refused() -> None:
    feeds = Call(1, 4, 5).feeds
    short = {name: feeds[name][:8] for name in ("cos_cache", "sin_cache")}
    with pytest.raises(Exception, match="cos_cache dimension 0"):
        gqa({**feeds, **short}, do_rotary=1)


@pytest.mark.parametrize("kernel", ["SkipSimplifiedLayerNormalization", "SkipLayerNormalization"])
def test_skip_norms_give_the_residual_as_their_fourth_output(kernel: str) -> None:
    rng = np.random.default_rng(0)
    x, skip = (1e-4 * rng.standard_normal((2, 3, 32)).astype(np.float32) for _ in "xs")
    scale = rng.standard_normal(32).astype(np.float32)
    node = helper.make_node(
        kernel, ["x", "skip", "scale"], ["y", "", "", "sum"], domain="com.microsoft", epsilon=1e-5
    )
    y, total = _run(node, {"x": x, "skip": skip, "scale": scale})
    np.testing.assert_array_equal(total, x + skip)
    centred = total if kernel.startswith("SkipSimplified") else total - total.mean(-1, keepdims=True)
    expected = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * scale
    np.testing.assert_allclose(y, expected, atol=1e-6)


def test_quick_gelu_takes_its_factor() -> None:
    x = np.linspace(-6, 6, 101, dtype=np.float32)
    node = helper.make_node("QuickGelu", ["x"], ["y"], domain="com.microsoft", alpha=1.0)
    np.testing.assert_allclose(_run(node, {"x": x})[0], x / (1 + np.exp(-x)), atol=1e-6)


def test_rotary_embedding_takes_rows_with_the_number_of_heads() -> None:
    call = Call(3, 4, 5)
    names = ["query", "cos_cache", "sin_cache", "position_ids"]
    node = helper.make_node("RotaryEmbedding", names, ["y"], num_heads=HEADS)
    feeds = {**call.feeds, "query": call.q.reshape(3, 4, -1)}
    (got,) = _run(node, feeds, {"position_ids": TensorProto.INT64})
    expected = call._rotated(call.q.transpose(0, 2, 1, 3)).transpose(0, 2, 1, 3).reshape(3, 4, -1)
    np.testing.assert_allclose(got, expected, atol=1e-6)


def test_without_a_past_there_are_no_query_seqlens() -> None:
    with pytest.raises(Exception, match="query_seqlens requires past_key"):
        gqa(Call(1, 6, 0).without("past_key", "past_value"), do_rotary=1)


def test_norms_of_queries_and_keys_cannot_go_inside() -> None:
    ones = np.ones(SIZE, np.float32)
    with pytest.raises(Exception, match="q_norm_weight"):
        gqa({**Call(1, 6, 0).feeds, "q_norm_weight": ones, "k_norm_weight": ones}, do_rotary=1)


def _recurrence(call: dict[str, Array]) -> tuple[Array, Array]:
    """Linear attention token by token in float64: results [batch, sequence, heads, size] and the state."""
    state, results = call["state"].astype(np.float64), []
    for t in range(call["query"].shape[1]):
        now = {name: array[:, t].astype(np.float64) for name, array in call.items() if name != "state"}
        if "decay" in now:
            decay = np.exp(now["decay"])
            state = state * (decay[..., None] if decay.ndim == 3 else decay[..., None, None])
        value = now["value"]
        if "beta" in now:
            value = (value - np.einsum("bhkv,bhk->bhv", state, now["key"])) * now["beta"][..., None]
        state = state + now["key"][..., None] * value[..., None, :]
        results.append(np.einsum("bhkv,bhk->bhv", state, now["query"]))
    return np.stack(results, 1), state


@pytest.mark.parametrize("sequence", [1, 5])
@pytest.mark.parametrize("by_key", [False, True], ids=["decay-by-head", "decay-by-key"])
@pytest.mark.parametrize("rule", ["linear", "gated", "delta", "gated_delta"])
def test_linear_attention_goes_on_from_a_state(rule: str, by_key: bool, sequence: int) -> None:
    rng, (batch, heads, key, value) = np.random.default_rng(0), (2, 3, 8, 4)
    call = {
        "query": (heads, key),
        "key": (heads, key),
        "value": (heads, value),
        "decay": (heads,),
        "beta": (heads,),
    }
    if by_key:
        call["decay"] = (heads, key)
    wanted = [n for n in call if (n != "decay" or "gated" in rule) and (n != "beta" or "delta" in rule)]
    drawn = {n: rng.standard_normal((batch, sequence, *call[n])).astype(np.float32) / 2 for n in wanted}
    drawn |= {"state": rng.standard_normal((batch, heads, key, value)).astype(np.float32)}
    if "decay" in drawn:
        drawn["decay"] = -np.abs(drawn["decay"])
    names = [n if n in drawn else "" for n in ("query", "key", "value", "state", "decay", "beta")]
    node = helper.make_node(
        "LinearAttention", names, ["y", "present"], domain="com.microsoft",
        q_num_heads=heads, kv_num_heads=heads, update_rule=rule, scale=1.0,
    )  # fmt: skip
    feeds = {n: a if n == "state" else a.reshape(batch, sequence, -1) for n, a in drawn.items()}

    y, present = _run(node, feeds)

    results, state = _recurrence(drawn)
    np.testing.assert_allclose(y, results.reshape(batch, sequence, -1), atol=1e-5)
    np.testing.assert_allclose(present, state, atol=1e-5)


@pytest.mark.parametrize("sequence", [1, 2, 5])
def test_a_causal_convolution_goes_on_from_a_state_one_shorter_than_its_kernel(sequence: int) -> None:
    rng, (batch, channels, size) = np.random.default_rng(0), (2, 6, 4)
    feeds = {
        name: rng.standard_normal(shape).astype(np.float32)
        for name, shape in {
            "x": (batch, channels, sequence),
            "weight": (channels, 1, size),
            "bias": (channels,),
            "state": (batch, channels, size - 1),
        }.items()
    }
    node = helper.make_node(
        "CausalConvWithState",
        list(feeds),
        ["y", "present"],
        domain="com.microsoft",
        ndim=1,
        activation="silu",
    )

    y, present = _run(node, feeds)

    whole = np.concatenate([feeds["state"], feeds["x"]], -1)
    taps = np.stack([whole[..., t : t + size] for t in range(sequence)], 2)
    made = (taps * feeds["weight"]).sum(-1) + feeds["bias"][:, None]
    np.testing.assert_allclose(y, made / (1 + np.exp(-made)), atol=1e-5)
    np.testing.assert_array_equal(present, whole[..., -(size - 1) :])
