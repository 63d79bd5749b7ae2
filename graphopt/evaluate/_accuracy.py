"""How much of a model is left: perplexity, KL divergence, top-1 agreement or cosine, against a reference."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphopt.errors import BadInput
from graphopt.evaluate._logits import Logits
from graphopt.evaluate._tokens import TokenValues, compare_tokens
from graphopt.interface import Arrays, Model
from graphopt.metrics import Estimate, bootstrap, cosine_similarity

__all__ = [
    "EncoderAccuracy",
    "LanguageAccuracy",
    "compare_encoders",
    "compare_language_models",
]


@dataclass(frozen=True)
class LanguageAccuracy:
    """A package against its reference on the same text.

    Perplexities are per token. KL divergence is KL(reference || package) in nats a token, its mean and its
    99th percentile; `top1_agreement` is the share of tokens for which both would choose the same next one.
    """

    sequences: int
    tokens: int
    perplexity: Estimate
    reference_perplexity: Estimate
    perplexity_ratio: Estimate
    kl_mean: Estimate
    kl_p99: Estimate
    top1_agreement: Estimate

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class EncoderAccuracy:
    """A package against its reference: by output, the mean and the smallest cosine between rows."""

    calls: int
    cosine_mean: dict[str, Estimate]
    cosine_min: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def compare_language_models(
    package: Logits,
    reference: Logits,
    sequences: Iterable[NDArray[np.int64]],
    documents: Sequence[str] | None = None,
) -> LanguageAccuracy:
    """Run both over each sequence int64[S]; each gives logits[S, vocabulary], held one sequence at a time.

    `documents` names for each sequence that of which it is a part; those are what is resampled whole.
    Sums are in float64. A package whose logits are not finite has infinite perplexity and divergence.
    Raises `BadInput` where the two differ in vocabulary, and where there is no sequence.
    """
    found = [compare_tokens([package(tokens)], reference(tokens), tokens)[0] for tokens in sequences]
    if not found:
        raise BadInput("the text is too short to measure on: it needs two tokens at least")
    names = documents or [str(i) for i in range(len(found))]

    def blocks(values: Callable[[TokenValues], NDArray[np.float64]]) -> list[NDArray[np.float64]]:
        of: dict[str, list[NDArray[np.float64]]] = {}
        for name, one in zip(names, found, strict=True):
            of.setdefault(name, []).append(values(one))
        return [np.concatenate(parts) for parts in of.values()]

    agreements = blocks(lambda one: one.agreement)
    divergences = blocks(lambda one: one.divergence)
    return LanguageAccuracy(
        sequences=len(found),
        tokens=sum(map(len, agreements)),
        perplexity=bootstrap(blocks(lambda one: one.loss), _perplexity),
        reference_perplexity=bootstrap(blocks(lambda one: one.reference_loss), _perplexity),
        perplexity_ratio=bootstrap(blocks(lambda one: one.excess), _perplexity),
        kl_mean=bootstrap(divergences, _mean),
        kl_p99=bootstrap(divergences, _p99),
        top1_agreement=bootstrap(agreements, _mean),
    )


def compare_encoders(package: Model, reference: Model, calls: Iterable[Arrays]) -> EncoderAccuracy:
    """Run both on each call's feeds and compare every output's rows (last axis) by cosine."""
    found: dict[str, list[NDArray[np.float64]]] = {}
    count = 0
    for feeds in calls:
        got, expected = package(feeds), reference(feeds)
        count += 1
        for name, value in expected.items():
            found.setdefault(name, []).append(cosine_similarity(value, got[name]))
    return EncoderAccuracy(
        count,
        {name: bootstrap(parts, _mean) for name, parts in found.items()},
        {name: float(min(p.min() for p in parts)) for name, parts in found.items()},
    )


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean())


def _p99(values: NDArray[np.float64]) -> float:
    return float(np.percentile(values, 99, method="higher"))


def _perplexity(losses: NDArray[np.float64]) -> float:
    with np.errstate(over="ignore"):
        return float(np.exp(losses.mean()))
