"""Evidence about language models: right for hand-made pairs of models, and bad for what is damaged."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.special

from graphopt.evaluate import LANGUAGE_METRICS
from graphopt.evaluate._corpus import Corpus, read_corpus
from graphopt.evaluate._language_run import PROMPTS, LanguageRun
from graphopt.metrics import Documents, Exact, Sample
from graphopt.runtime import Completion
from tests.evaluate._sides import WORDS, Language, table, text_of, tokenizer_in

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(0)
DOCUMENTS = [RNG.integers(1, WORDS, 40 + i).tolist() for i in range(48)]
ANSWERS = [Completion("w1 w2 w3", 24, (1, 2, 3), "stop")] * 2 * PROMPTS
OF_TOKENS = (
    "perplexity",
    "perplexity_ratio",
    "kl_mean",
    "kl_p99",
    "top1_agreement",
    "flips_lost",
    "flips_won",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tokenizer_in(tmp_path / "package")


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    path = tmp_path / "d.jsonl"
    path.write_text(
        "\n".join(
            json.dumps({"text": text_of(tokens), "domain": "prose" if i % 3 else "code"})
            for i, tokens in enumerate(DOCUMENTS)
        )
    )
    return read_corpus(path)


def measured(
    corpus: Corpus, sides: list[Language], reference: Language, metrics: Collection[str]
) -> dict[tuple[str, str], Sample]:
    run = LanguageRun(sides, reference, corpus, metrics, lambda text: None)
    run.extend(100_000)
    assert run.exhausted
    return {(sample.metric, sample.scope): sample for sample in run.samples()}


def test_parts_of_the_data_have_together_what_the_whole_has(folder: Path, corpus: Corpus) -> None:
    got, expected = Language(folder, table(1)), Language(folder, table(0))

    def found(tokens: int, part: tuple[int, int] = (0, 1)) -> list[tuple[str, list[float]]]:
        run = LanguageRun([got], expected, corpus, ["kl_mean"], lambda text: None, part)
        run.extend(tokens)
        whole = next((sample for sample in run.samples() if not sample.scope), None)
        if whole is None:
            return []
        evidence = documents(whole)
        return list(zip(evidence.names, (one.tolist() for one in evidence.values), strict=True))

    for tokens in (1, 100, 100_000):
        for count in (2, 3, 50):
            together: dict[str, list[float]] = {}
            for name, values in (one for i in range(count) for one in found(tokens, (i, count))):
                together.setdefault(name, []).extend(values)
            assert list(together.items()) == found(tokens)


def documents(sample: Sample) -> Documents:
    assert isinstance(sample.evidence, Documents)
    return sample.evidence


def pooled(sample: Sample, *, baseline: bool = False) -> float:
    found = documents(sample)
    values = np.concatenate((found.baseline or ()) if baseline else found.values)
    return {
        "mean": lambda: float(values.mean()),
        "exp_mean": lambda: float(np.exp(values.mean())),
        "p99": lambda: float(np.percentile(values, 99, method="higher")),
    }[found.statistic]()


def test_numbers_of_tokens_are_those_of_scipy(folder: Path, corpus: Corpus) -> None:
    got, expected = Language(folder, table(1)), Language(folder, table(0))
    found = {
        k: pooled(s) for (k, scope), s in measured(corpus, [got], expected, OF_TOKENS).items() if not scope
    }

    q, p = (
        [scipy.special.log_softmax(side.logits(np.asarray(d)).astype(np.float64), -1) for d in DOCUMENTS]
        for side in (got, expected)
    )
    nexts = [np.asarray(d)[1:] for d in DOCUMENTS]
    losses = [
        np.concatenate([-log[np.arange(len(n)), n] for log, n in zip(side, nexts, strict=True)])
        for side in (q, p)
    ]
    kl = np.concatenate(
        [scipy.special.rel_entr(np.exp(a), np.exp(b)).sum(-1) for a, b in zip(p, q, strict=True)]
    )
    tops = [np.concatenate([log.argmax(-1) for log in side]) for side in (q, p)]
    right = [
        np.concatenate([log[:-1].argmax(-1) == n for log, n in zip(side, nexts, strict=True)])
        for side in (q, p)
    ]
    assert found == pytest.approx(
        {
            "perplexity": np.exp(losses[0].mean()),
            "perplexity_ratio": np.exp(losses[0].mean() - losses[1].mean()),
            "kl_mean": kl.mean(),
            "kl_p99": np.percentile(kl, 99, method="higher"),
            "top1_agreement": (tops[0] == tops[1]).mean(),
            "flips_lost": (right[1] & ~right[0]).mean(),
            "flips_won": (right[0] & ~right[1]).mean(),
        }
    )
    assert 0 < found["flips_lost"] != found["flips_won"] > 0


def test_a_package_beside_itself_is_exact(folder: Path, corpus: Corpus) -> None:
    side = Language(folder, table(), answers=ANSWERS)
    other = Language(folder, table(), answers=ANSWERS)
    found = measured(corpus, [side, other], other, LANGUAGE_METRICS)

    for (metric, scope), sample in found.items():
        if isinstance(sample.evidence, Exact):
            assert (sample.evidence.value, sample.evidence.baseline) == (0, 0)
        elif metric != "perplexity":
            ideal = (
                1.0
                if metric in ("top1_agreement", "perplexity_ratio", "greedy_agreement", "length_ratio")
                else 0.0
            )
            assert pooled(sample) == pooled(sample, baseline=True) == ideal, (metric, scope)
    assert {metric for metric, _ in found} == LANGUAGE_METRICS


def test_the_baseline_is_measured_on_the_same_documents(folder: Path, corpus: Corpus) -> None:
    package, baseline, reference = (Language(folder, table(seed)) for seed in (1, 2, 0))
    both = measured(corpus, [package, baseline], reference, ["kl_mean", "scaled_difference"])
    alone = measured(corpus, [baseline], reference, ["kl_mean", "scaled_difference"])

    assert pooled(both["kl_mean", ""], baseline=True) == pooled(alone["kl_mean", ""])
    found = documents(both["kl_mean", ""])
    assert set(found.names) == {document.name for document in corpus.documents}
    exact = both["scaled_difference", ""].evidence
    assert isinstance(exact, Exact)
    assert exact.baseline == alone["scaled_difference", ""].evidence.value  # type: ignore[union-attr]


def test_every_metric_comes_once_more_for_each_domain(folder: Path, corpus: Corpus) -> None:
    found = measured(corpus, [Language(folder, table(1))], Language(folder, table(0)), ["kl_mean"])
    parts = [documents(found["kl_mean", scope]) for scope in ("domain code", "domain prose")]

    assert [len(part.values) for part in parts] == [16, 32]
    assert set(parts[0].names).isdisjoint(parts[1].names)
    assert len(documents(found["kl_mean", ""]).values) == 48


def test_only_what_is_asked_for_is_measured(folder: Path, corpus: Corpus) -> None:
    side = Language(folder, table())

    assert {metric for metric, _ in measured(corpus, [side], side, ["kl_p99"])} == {"kl_p99"}


def test_a_mask_that_is_dropped_is_seen_in_padded_batches_alone(folder: Path, corpus: Corpus) -> None:
    reference, metrics = Language(folder, table()), ["padded_kl_mean", "kl_mean"]
    found = measured(corpus, [Language(folder, table(), drops_the_mask=True)], reference, metrics)
    whole = measured(corpus, [Language(folder, table())], reference, metrics)

    assert pooled(found["kl_mean", ""]) == pooled(whole["padded_kl_mean", ""]) == 0.0
    values = documents(found["padded_kl_mean", ""]).values
    assert len(values) == 33
    assert min(float(value.mean()) for value in values) > 0.01


def test_answers_that_are_cut_short_are_seen(folder: Path, corpus: Corpus) -> None:
    cut = [Completion("w1", 24, (1,), "stop")] * 2 * PROMPTS
    found = measured(
        corpus,
        [Language(folder, table(), answers=cut)],
        Language(folder, table(), answers=ANSWERS),
        ["length_ratio", "greedy_agreement"],
    )

    assert len(documents(found["length_ratio", ""]).values) == PROMPTS
    assert pooled(found["length_ratio", ""]) == 0.5
    assert pooled(found["greedy_agreement", ""]) == 0.25


def test_a_measurement_goes_on_where_it_stopped(folder: Path, corpus: Corpus) -> None:
    sides = [Language(folder, table(1), answers=ANSWERS)], Language(folder, table(0), answers=ANSWERS)
    run = LanguageRun(*sides, corpus, LANGUAGE_METRICS, lambda text: None)
    sizes = []
    for _ in range(3):
        run.extend(500)
        sizes.append(len(documents(next(s for s in run.samples() if s.metric == "kl_mean")).values))
    run.extend(100_000)
    whole = measured(corpus, *sides, LANGUAGE_METRICS)

    assert sizes[0] < sizes[1] < sizes[2] < 48
    for sample in run.samples():
        other = whole[sample.metric, sample.scope].evidence
        if isinstance(other, Documents):
            assert documents(sample).names == other.names
            for one, two in zip(documents(sample).values, other.values, strict=True):
                np.testing.assert_array_equal(one, two)


def test_logits_that_are_not_finite_are_infinitely_wrong(folder: Path, corpus: Corpus) -> None:
    broken = Language(folder, table() * np.float32(np.nan))
    found = measured(corpus, [broken], Language(folder, table()), [*OF_TOKENS, "scaled_difference"])

    for metric in ("perplexity", "perplexity_ratio", "kl_mean", "kl_p99"):
        assert pooled(found[metric, ""]) == np.inf
    assert pooled(found["top1_agreement", ""]) == pooled(found["flips_won", ""]) == 0
    assert found["scaled_difference", ""].evidence.value == np.inf  # type: ignore[union-attr]
