"""How much of a model is left: perplexity, KL divergence, top-1 agreement or cosine, against a reference."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphopt.evaluate._estimate import Estimate, bootstrap
from graphopt.verify import cosines

__all__ = [
    "EncoderComparison",
    "LanguageComparison",
    "compare_encoders",
    "compare_language_models",
    "windows",
]

Logits = Callable[[NDArray[np.int64]], NDArray[np.floating[Any]]]
Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class LanguageComparison:
    """A package against its reference on the same text.

    Perplexities are per token. KL divergence is KL(reference || package) in nats a token, its mean and its
    99th percentile; `top1` is the share of tokens for which both would choose the same next one.
    """

    sequences: int
    tokens: int
    perplexity: Estimate
    reference_perplexity: Estimate
    kl_mean: Estimate
    kl_p99: Estimate
    top1: Estimate

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class EncoderComparison:
    """A package against its reference: by output, the mean and the smallest cosine between rows."""

    calls: int
    cosine_mean: dict[str, Estimate]
    cosine_min: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def windows(tokens: NDArray[np.int64], length: int, limit: int | None = None) -> Iterator[NDArray[np.int64]]:
    """`tokens` int64[N] in consecutive windows int64[length], the last one shorter; `limit` tokens in all."""
    tokens = tokens[:limit]
    for start in range(0, len(tokens), length):
        if len(tokens) - start > 1:
            yield tokens[start : start + length]


def compare_language_models(
    package: Logits, reference: Logits, sequences: Iterable[NDArray[np.int64]]
) -> LanguageComparison:
    """Run both over each sequence int64[S]; each gives logits[S, vocabulary], held one sequence at a time.

    Sums are in float64. A package whose logits are not finite has infinite perplexity and divergence.
    """
    loss, reference_loss, divergence, agreement = [], [], [], []
    for tokens in sequences:
        got, expected = _log_softmax(package(tokens)), _log_softmax(reference(tokens))
        places = np.arange(len(tokens) - 1)
        loss.append(_finite(-got[places, tokens[1:]]))
        reference_loss.append(_finite(-expected[places, tokens[1:]]))
        with np.errstate(invalid="ignore"):
            divergence.append(_finite((np.exp(expected) * (expected - got)).sum(-1)).clip(min=0.0))
        agreement.append((got.argmax(-1) == expected.argmax(-1)).astype(np.float64))
    return LanguageComparison(
        sequences=len(loss),
        tokens=sum(map(len, agreement)),
        perplexity=bootstrap(loss, _perplexity),
        reference_perplexity=bootstrap(reference_loss, _perplexity),
        kl_mean=bootstrap(divergence, _mean),
        kl_p99=bootstrap(divergence, _p99),
        top1=bootstrap(agreement, _mean),
    )


def compare_encoders(
    package: Callable[[Arrays], Arrays], reference: Callable[[Arrays], Arrays], calls: Iterable[Arrays]
) -> EncoderComparison:
    """Run both on each call's feeds and compare every output's rows (last axis) by cosine."""
    found: dict[str, list[NDArray[np.float64]]] = {}
    count = 0
    for feeds in calls:
        got, expected = package(feeds), reference(feeds)
        count += 1
        for name, value in expected.items():
            found.setdefault(name, []).append(cosines(value, got[name]))
    return EncoderComparison(
        count,
        {name: bootstrap(parts, _mean) for name, parts in found.items()},
        {name: float(min(p.min() for p in parts)) for name, parts in found.items()},
    )


def _log_softmax(logits: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    wide = logits.astype(np.float64)
    wide -= wide.max(-1, keepdims=True)
    wide -= np.log(np.exp(wide).sum(-1, keepdims=True))
    return wide


def _finite(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(np.isnan(values), np.inf, values)


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean())


def _p99(values: NDArray[np.float64]) -> float:
    return float(np.percentile(values, 99, method="higher"))


def _perplexity(losses: NDArray[np.float64]) -> float:
    with np.errstate(over="ignore"):
        return float(np.exp(losses.mean()))
