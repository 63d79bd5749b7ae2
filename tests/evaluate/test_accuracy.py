"""Perplexity, KL divergence, agreement and cosine: right against references, and bad for a damaged model."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import scipy.special
import torch

from graphopt import BadInput
from graphopt.evaluate import (
    LanguageAccuracy,
    _tokens,
    compare_encoders,
    compare_language_models,
    session_logits,
)
from tests.passes._canonical import Shape, canonical_decoder
from tests.passes._runs import session

Array = np.ndarray[Any, Any]
SHAPE = Shape()
TEXT = [np.random.default_rng(i).integers(0, SHAPE.vocab, 20 + i) for i in range(6)]


def table(seed: int, vocabulary: int = 11) -> Callable[[Array], Array]:
    """A model whose logits depend on the token alone."""
    rows = np.random.default_rng(seed).normal(size=(vocabulary, vocabulary)).astype(np.float32)
    return lambda tokens: rows[tokens]


def texts(vocabulary: int = 11) -> list[Array]:
    return [np.random.default_rng(9 + i).integers(0, vocabulary, 30 + i) for i in range(5)]


def decoder(damage: Callable[[ir.Model], None] = lambda model: None) -> Callable[[Array], Array]:
    model = canonical_decoder(SHAPE)
    damage(model)
    return session_logits(session(model))


def zero_one_projection(model: ir.Model) -> None:
    weights = [v for v in model.graph.initializers.values() if v.shape and len(v.shape) == 2]
    inner = {u.op_type for v in weights for u, _ in v.uses()}
    assert "MatMul" in inner
    chosen = next(v for v in weights if all(use.op_type == "MatMul" for use, _ in v.uses()))
    assert chosen.const_value is not None
    chosen.const_value = ir.Tensor(np.zeros_like(chosen.const_value.numpy()), name=chosen.name)


@pytest.fixture(scope="module")
def found() -> LanguageAccuracy:
    return compare_language_models(table(0), table(1), texts())


def test_perplexity_is_that_of_pytorch(found: LanguageAccuracy) -> None:
    ratio = found.perplexity.value / found.reference_perplexity.value
    assert found.perplexity_ratio.value == pytest.approx(ratio)
    for model, estimate in ((table(0), found.perplexity), (table(1), found.reference_perplexity)):
        losses = [
            torch.nn.functional.cross_entropy(
                torch.from_numpy(model(t)[:-1]).double(), torch.from_numpy(t[1:]), reduction="none"
            )
            for t in texts()
        ]
        assert estimate.value == pytest.approx(float(torch.cat(losses).mean().exp()), rel=1e-6)


def test_divergence_is_that_of_scipy(found: LanguageAccuracy) -> None:
    p, q = (
        scipy.special.softmax(np.concatenate([model(t) for t in texts()]).astype(np.float64), axis=-1)
        for model in (table(1), table(0))
    )
    each = scipy.special.rel_entr(p, q).sum(-1)

    assert found.kl_mean.value == pytest.approx(each.mean(), rel=1e-9)
    assert found.kl_p99.value == pytest.approx(np.percentile(each, 99, method="higher"), rel=1e-9)


def test_agreement_is_counted(found: LanguageAccuracy) -> None:
    same = [table(0)(t).argmax(-1) == table(1)(t).argmax(-1) for t in texts()]

    assert found.top1_agreement.value == pytest.approx(np.concatenate(same).mean())
    assert (found.sequences, found.tokens) == (5, sum(map(len, texts())))


def test_a_model_beside_itself() -> None:
    found = compare_language_models(decoder(), decoder(), TEXT)

    assert (found.kl_mean.value, found.kl_p99.value, found.top1_agreement.value) == (0.0, 0.0, 1.0)
    assert found.perplexity == found.reference_perplexity


def test_a_zeroed_projection_is_seen() -> None:
    found = compare_language_models(decoder(zero_one_projection), decoder(), TEXT)

    assert found.kl_mean.low > 0.01
    assert found.kl_p99.value > found.kl_mean.value
    assert found.top1_agreement.high < 1.0
    assert found.perplexity.value != pytest.approx(found.reference_perplexity.value, rel=1e-3)


def test_one_wrong_token_in_a_hundred_is_seen_at_the_99th_percentile() -> None:
    def damaged(tokens: Array) -> Array:
        logits = table(1)(tokens).copy()
        logits[-1] = -logits[-1]
        return logits

    found = compare_language_models(damaged, table(1), texts())

    assert found.kl_p99.value > 50 * 0.01
    assert found.top1_agreement.value < 1.0


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_that_are_not_finite_are_infinitely_wrong(bad: float) -> None:
    found = compare_language_models(lambda t: table(1)(t) * np.float32(bad), table(1), texts())

    for estimate in (found.perplexity, found.kl_mean, found.kl_p99):
        assert (estimate.value, estimate.low, estimate.high) == (math.inf,) * 3
    assert found.top1_agreement.value < 0.5


def test_a_token_the_reference_rules_out() -> None:
    def without_token_3(tokens: Array) -> Array:
        logits = table(1)(tokens).copy()
        logits[:, 3] = -np.inf
        return logits

    text = [t[t != 3] for t in texts()]
    assert compare_language_models(without_token_3, without_token_3, text).kl_mean.value == 0.0
    assert 0 < compare_language_models(table(1), without_token_3, text).kl_mean.value < math.inf
    assert compare_language_models(without_token_3, table(1), text).kl_mean.value == math.inf


def test_a_large_vocabulary_is_worked_through_in_blocks(
    found: LanguageAccuracy, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    def counted(sides: list[Array], *rest: Array) -> Any:
        sizes.append(sides[0].nbytes * 2)
        return original(sides, *rest)

    original = _tokens._compare_rows
    monkeypatch.setattr(_tokens, "_compare_rows", counted)
    monkeypatch.setattr(_tokens, "_BLOCK_BYTES", 500)

    assert compare_language_models(table(0), table(1), texts()) == found
    assert len(sizes) > len(texts())
    assert max(sizes) <= 500


def test_documents_are_resampled_whole() -> None:
    text = texts()
    one = compare_language_models(table(0), table(1), text, ["a"] * len(text))
    each = compare_language_models(table(0), table(1), text, list("abcde"))

    assert one.kl_mean.low == one.kl_mean.value == one.kl_mean.high == pytest.approx(each.kl_mean.value)
    assert each.kl_mean.low < each.kl_mean.high
    assert each == compare_language_models(table(0), table(1), text)


def test_models_of_different_vocabularies() -> None:
    with pytest.raises(BadInput, match="vocabular"):
        compare_language_models(table(0, 11), table(0, 12), texts())


def test_no_text() -> None:
    with pytest.raises(BadInput, match="too short"):
        compare_language_models(table(0), table(1), [])


def test_json(found: LanguageAccuracy) -> None:
    data = json.loads(json.dumps(found.to_json()))

    assert set(data) == {
        *(
            "sequences",
            "tokens",
            "perplexity",
            "reference_perplexity",
            "perplexity_ratio",
            "kl_mean",
            "kl_p99",
            "top1_agreement",
        )
    }
    assert set(data["kl_mean"]) == {"value", "low", "high"}


CALLS = [{"x": np.random.default_rng(i).normal(size=(2, 8)).astype(np.float32)} for i in range(6)]
WEIGHT = np.random.default_rng(0).normal(size=(8, 5)).astype(np.float32)


def encoder(weight: Array) -> Callable[[Any], Any]:
    return lambda feeds: {"pooled": feeds["x"] @ weight, "other": feeds["x"]}


def test_cosines_of_encoders() -> None:
    noisy = WEIGHT + 0.3 * np.random.default_rng(1).normal(size=WEIGHT.shape).astype(np.float32)
    found = compare_encoders(encoder(noisy), encoder(WEIGHT), CALLS)

    x = np.concatenate([c["x"] for c in CALLS])
    each = torch.nn.functional.cosine_similarity(torch.from_numpy(x @ noisy), torch.from_numpy(x @ WEIGHT))
    assert found.calls == 6
    assert found.cosine_mean["pooled"].value == pytest.approx(float(each.mean()), abs=1e-6)
    assert found.cosine_min["pooled"] == pytest.approx(float(each.min()), abs=1e-6)
    assert found.cosine_mean["other"].value == pytest.approx(1.0)
    assert json.loads(json.dumps(found.to_json()))["cosine_min"]["other"] == pytest.approx(1.0)


@pytest.mark.parametrize("factor", [0.0, -1.0, np.nan])
def test_a_wrong_encoder_is_seen(factor: float) -> None:
    found = compare_encoders(encoder(WEIGHT * np.float32(factor)), encoder(WEIGHT), CALLS)

    assert found.cosine_mean["pooled"].high < 0.1
    assert found.cosine_min["pooled"] <= 0.0
