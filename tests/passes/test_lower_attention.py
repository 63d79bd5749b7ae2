"""lower-attention over every variant of decoder and every kind of call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
from graphopt_passes.lower_attention import LowerAttention

from graphopt.pipeline import Context, NearMiss
from graphopt.plugins import registry
from graphopt.recipes import Step
from graphopt.testing import outputs, session
from tests.passes._canonical import CALLS, GEMMA2, GPT2, Call, Domain, Shape, canonical_decoder
from tests.passes._runs import LOWERING, Lowered

Array = np.ndarray[Any, Any]
CPU: Any = registry.targets()["cpu"]
TOLERANCE = 1e-5  # of an output's standard deviation; float32 and another order of sums

VARIANTS = {
    "llama": Shape(),
    "one-key-head": Shape(kv_heads=1),
    "biases": Shape(bias=True),
    "norm-before-transpose": Shape(qk_norm="before"),
    "norm-after-transpose": Shape(qk_norm="after"),
    "gemma2": GEMMA2,
    "mistral": Shape(windows=(4,)),
    "gpt2": GPT2,
    "split": Shape(projection="split"),
    "slices": Shape(projection="slices"),
    "interleaved": Shape(interleaved=True),
    "partial-rotation": Shape(head=32, rotary=16),
    "rotation-of-8": Shape(rotary=8),
    "head-of-24": Shape(head=24, rotary=24),
}
INSIDE = set(VARIANTS) - {"gpt2", "rotation-of-8", "head-of-24"}
PACKED = {"gpt2", "split", "slices"}
_made: dict[Any, Lowered] = {}


def lowered(shape: Shape, *steps: str | Step) -> Lowered:
    key = (shape, *(step if isinstance(step, str) else (step.name, *step.options.items()) for step in steps))
    if key not in _made:
        _made[key] = Lowered(shape, *steps)
    return _made[key]


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.name)
@pytest.mark.parametrize("variant", VARIANTS)
def test_any_call_gives_the_same(variant: str, call: Call) -> None:
    made = lowered(VARIANTS[variant], "lower-attention")
    case = Domain(made.shape).case(call, np.random.default_rng(7))
    assert made.error(case) < TOLERANCE


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_the_kernel_does_is_gone_from_the_graph(variant: str) -> None:
    made = lowered(VARIANTS[variant], "lower-attention")
    kernels = [node for node in made.model.graph if node.op_type == "GroupQueryAttention"]
    assert len(kernels) == 2
    assert made.operators["Attention"] == made.operators["Transpose"] == 0
    for node in kernels:
        assert node.attributes.get_int("do_rotary", 0) == (variant in INSIDE)
        assert (node.inputs[1] is None) == (variant in PACKED)
    assert made.operators["RotaryEmbedding"] == (4 if variant in {"rotation-of-8", "head-of-24"} else 0)
    windows = [node.attributes.get_int("local_window_size", -1) for node in kernels]
    wanted = VARIANTS[variant].windows
    assert windows == [wanted[i % len(wanted)] or -1 for i in range(2)]


def test_the_bias_and_the_lengths_are_made_once() -> None:
    made = lowered(GEMMA2, "lower-attention")
    one, other = (node for node in made.model.graph if node.op_type == "GroupQueryAttention")
    shared = (5, 6, 7, 8, 9, 10, 16)
    assert all(one.inputs[i] is other.inputs[i] is not None for i in shared)


def test_a_llama_layer_ends_as_nine_nodes() -> None:
    made = lowered(Shape(), "pack-qkv", *LOWERING, "dead-code", "cse")
    other = lowered(replace(Shape(), layers=3), "pack-qkv", *LOWERING, "dead-code", "cse")
    assert other.operators - made.operators == {
        "MatMul": 5,
        "GroupQueryAttention": 1,
        "SkipSimplifiedLayerNormalization": 2,
        "QuickGelu": 1,
        "Mul": 1,
    }


@pytest.mark.parametrize("variant", ["llama", "norm-before-transpose", "gemma2", "gpt2"])
def test_the_whole_lowering_gives_the_same(variant: str) -> None:
    made = lowered(VARIANTS[variant], "pack-qkv", *LOWERING, "dead-code", "cse")
    for case in Domain(made.shape).cases(np.random.default_rng(3)):
        assert made.error(case) < TOLERANCE


def test_without_its_bias_a_left_padded_batch_is_wrong() -> None:
    made = Lowered(Shape(), "lower-attention")
    for node in made.model.graph:
        if node.op_type == "GroupQueryAttention":
            node.replace_input_with(10, None)
    made._after = session(made.model)
    case = Domain().case(Call("decode", 3, 1, 7, "left"), np.random.default_rng(7))
    assert made.error(case) > 0.01


def test_a_mask_that_knows_no_padding_becomes_no_bias() -> None:
    made = lowered(Shape(padding=False), "lower-attention")
    kernels = [node for node in made.model.graph if node.op_type == "GroupQueryAttention"]
    assert [node.inputs[10] for node in kernels] == [None, None]
    for case in Domain(made.shape).cases(np.random.default_rng(2)):
        assert made.error(case) < TOLERANCE


def test_past_and_present_may_share_their_memory() -> None:
    made = lowered(Shape(), "lower-attention")
    shape, run = made.shape, session(made.model)
    for call in CALLS:
        case = Domain().case(call, np.random.default_rng(5))
        expected = made.run(case.feeds)
        binding, bound = run.io_binding(), []
        for name, array in case.feeds.items():
            if name.startswith("past"):
                buffer = np.zeros((call.batch, shape.kv_heads, shape.positions, shape.head), np.float32)
                buffer[:, :, : call.past] = array
                value = ort.OrtValue.ortvalue_from_numpy(buffer)
                bound.append(name.replace("past_key_values", "present"))
                binding.bind_ortvalue_output(bound[-1], value)
            else:
                value = ort.OrtValue.ortvalue_from_numpy(array)
            binding.bind_ortvalue_input(name, value)
        bound.append("logits")
        binding.bind_output("logits")
        run.run_with_iobinding(binding)
        got = dict(zip(bound, binding.copy_outputs_to_cpu(), strict=True))
        for name, array in expected.items():
            same = got[name] if name == "logits" else got[name][:, :, : array.shape[2]]
            np.testing.assert_allclose(same, array, atol=1e-5)


class TestDense:
    """Dense mode: right-padded calls, one after another, are those of each row alone; others are refused."""

    STEP = Step("lower-attention", {"mode": "dense"})

    @pytest.mark.parametrize("shape", [Shape(), GPT2, GEMMA2], ids=["llama", "gpt2", "gemma2"])
    def test_rows_are_as_if_alone(self, shape: Shape) -> None:
        made = lowered(shape, self.STEP)
        rng = np.random.default_rng(0)
        chunks = ((5, 2, 1), (3, 4, 2), (1, 1, 1), (1, 1, 1))
        tokens = [rng.integers(0, shape.vocab, sum(c[row] for c in chunks)) for row in range(3)]
        expected = [_alone(shape, row) for row in tokens]
        state = _empty(shape, 3)
        mask, done = np.zeros((3, 0), np.int64), [0, 0, 0]
        for chunk in chunks:
            ids, new = np.zeros((3, max(chunk)), np.int64), np.zeros((3, max(chunk)), np.int64)
            for row, length in enumerate(chunk):
                ids[row, :length] = tokens[row][done[row] : done[row] + length]
                new[row, :length] = 1
            mask = np.concatenate([mask, new], 1)
            positions = np.maximum(np.cumsum(mask, 1) - 1, 0)[:, -max(chunk) :]
            got = made.run({"input_ids": ids, "attention_mask": mask, "position_ids": positions, **state})
            state = _next(got)
            for row, length in enumerate(chunk):
                want = expected[row][done[row] : done[row] + length]
                assert np.abs(got["logits"][row, :length] - want).max() < 1e-5 * max(1, want.std())
                done[row] += length

    @pytest.mark.parametrize("call", [c for c in CALLS if c.padding == "left"], ids=lambda call: call.name)
    def test_left_padding_is_refused(self, call: Call) -> None:
        made = lowered(Shape(), self.STEP)
        case = Domain().case(call, np.random.default_rng(0))
        with pytest.raises(Exception, match=r"query_seqlens\[1\] = -1"):
            made.run(case.feeds)

    def test_a_hole_among_new_tokens_is_refused(self) -> None:
        case = Domain().case(Call("prefill", 2, 5, 0), np.random.default_rng(0))
        mask = case.feeds["attention_mask"].copy()
        mask[1, 2] = 0
        with pytest.raises(Exception, match=r"query_seqlens\[1\] = -1"):
            lowered(Shape(), self.STEP).run({**case.feeds, "attention_mask": mask})

    def test_it_is_recorded_as_an_assumption(self) -> None:
        assumed = lowered(Shape(), self.STEP).context.assumptions["dense-attention"]
        assert "padded on the right" in assumed.text
        assert assumed.padding == ("none", "right")
        assert "dense-attention" not in lowered(Shape(), "lower-attention").context.assumptions


def _alone(shape: Shape, tokens: Array) -> Array:
    count = len(tokens)
    feeds = {"input_ids": tokens[None], "attention_mask": np.ones((1, count), np.int64)}
    feeds |= {"position_ids": np.arange(count)[None], **_empty(shape, 1)}
    logits: Array = outputs(session(canonical_decoder(shape)), feeds)["logits"][0]
    return logits


def _empty(shape: Shape, batch: int) -> dict[str, Array]:
    return {
        f"past_key_values.{layer}.{kind}": np.zeros((batch, shape.kv_heads, 0, shape.head), np.float32)
        for layer in range(shape.layers)
        for kind in ("key", "value")
    }


def _next(got: dict[str, Array]) -> dict[str, Array]:
    return {name.replace("present", "past_key_values"): x for name, x in got.items() if name != "logits"}


def _attentions(model: ir.Model) -> list[ir.Node]:
    return [node for node in model.graph if node.op_type == "Attention"]


def _set(index: int) -> Callable[[ir.Model], None]:
    def change(model: ir.Model) -> None:
        for node in _attentions(model):
            node.replace_input_with(index, None)

    return change


def _is_causal(model: ir.Model) -> None:
    for node in _attentions(model):
        node.attributes["is_causal"] = ir.AttrInt64("is_causal", 1)


def _everything_visible(model: ir.Model) -> None:
    """Only padding is hidden."""
    for node in _attentions(model):
        both = node.inputs[3].producer() if node.inputs[3] is not None else None
        assert both is not None
        node.replace_input_with(3, both.inputs[0])


@pytest.mark.parametrize(
    ("shape", "change", "reason"),
    [
        (Shape(head=20, rotary=20), None, "multiple of 8, not 20"),
        (Shape(), _set(3), "no mask"),
        (Shape(), _set(5), "no cache"),
        (Shape(), _is_causal, "is_causal"),
        (Shape(), _everything_visible, "not made of causal"),
    ],
)
def test_refusals_leave_the_model_as_it_was(
    shape: Shape, change: Callable[[ir.Model], None] | None, reason: str
) -> None:
    model = canonical_decoder(shape)
    if change is not None:
        change(model)
    proposals = list(LowerAttention().edits(model.graph, Context(model, domain=Domain(shape))))
    assert [isinstance(p, NearMiss) and reason in p.reason for p in proposals] == [True, True]


class Takes(type(CPU().capabilities())):  # type: ignore[misc]
    """Heads of a multiple of 3 alone; the rule of their rotation it does not know."""

    def accepts(self, rule: str, *values: int) -> bool:
        return {"head-size": lambda size: size % 3 == 0}[rule](*values)


class Elsewhere(CPU):
    name = "elsewhere"

    def capabilities(self) -> Takes:
        return Takes()


@pytest.mark.parametrize(
    ("size", "target", "taken"),
    [
        (20, Elsewhere, False),
        (16, Elsewhere, False),
        (24, Elsewhere, True),
        (24, registry.targets()["cpu"], True),
        (20, registry.targets()["cpu"], False),
    ],
)
def test_the_target_says_which_heads_it_takes(size: int, target: Any, taken: bool) -> None:
    shape = Shape(head=size, rotary=size)
    model = canonical_decoder(shape)
    context = Context(model, domain=Domain(shape), task="text-generation", target=target())
    proposed = next(LowerAttention().edits(model.graph, context))

    if taken:
        assert "rotation outside" in proposed.summary
    else:
        assert proposed.reason == f"the target {target.name!r} takes no heads of {size}"


@pytest.mark.parametrize(("target", "where"), [(Elsewhere, "outside"), (CPU, "inside")])
def test_the_target_says_which_it_rotates(target: Any, where: str) -> None:
    shape = Shape(head=48, rotary=48)
    model = canonical_decoder(shape)
    context = Context(model, domain=Domain(shape), task="text-generation", target=target())

    assert f"rotation {where}" in next(LowerAttention().edits(model.graph, context)).summary
