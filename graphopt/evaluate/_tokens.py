"""Next-token distributions of a model beside a reference's, token by token."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphopt.errors import BadInput
from graphopt.metrics import kl_of_log_probabilities, log_softmax

__all__ = ["TokenValues", "compare_tokens"]

Logits = NDArray[np.floating[Any]]
Floats = NDArray[np.float64]

_BLOCK_BYTES = 1 << 20
"""1 MiB: float64 logits of a sequence and a large vocabulary would be more than the model, and what stays in
the processor's cache takes half the time."""

_NONE = -1
"""No token: the likeliest of a row that is no distribution."""


@dataclass(frozen=True)
class TokenValues:
    """What there is to say of a model on one sequence of S tokens, beside its reference.

    `loss` and `reference_loss` are negative log-likelihoods of the tokens after the first, [S - 1], in nats;
    `right` and `reference_right` say where the likeliest token is the next one, 1 or 0. `divergence` is
    KL(reference || model) after each token, [S], and `agreement` 1 where both hold the same token for the
    likeliest. What is no number is an infinite loss and an infinite divergence.
    """

    loss: Floats
    reference_loss: Floats
    right: Floats
    reference_right: Floats
    divergence: Floats
    agreement: Floats

    @property
    def excess(self) -> Floats:
        """How much more is lost than the reference loses; exp of its mean is the ratio of perplexities."""
        with np.errstate(invalid="ignore"):
            return _finite(self.loss - self.reference_loss)


def compare_tokens(
    sides: Sequence[Logits], expected: Logits, tokens: NDArray[np.int64]
) -> tuple[TokenValues, ...]:
    """Each of `sides` beside the reference's `expected`, logits [S, vocabulary] of `tokens` int64[S].

    The reference's log-probabilities are computed once for all, in float64. Raises `BadInput` where a
    vocabulary differs.
    """
    for got in sides:
        if got.shape != expected.shape:
            raise BadInput(
                f"logits of the package are {list(got.shape)}, of the reference {list(expected.shape)}",
                hint="The vocabularies differ: compare a package with the model it was made from.",
            )
    nexts = np.append(tokens[1:], 0)
    blocks = [
        _compare_rows([got[rows] for got in sides], expected[rows], nexts[rows])
        for rows in _blocks(len(tokens), expected.shape[-1])
    ]
    return tuple(_joined(parts) for parts in zip(*blocks, strict=True))


def _joined(parts: Sequence[TokenValues]) -> TokenValues:
    """Blocks of rows as one sequence; nothing comes after its last token."""
    joined = {
        name: np.concatenate([getattr(part, name) for part in parts]) for name in TokenValues.__annotations__
    }
    for name in ("loss", "reference_loss", "right", "reference_right"):
        joined[name] = joined[name][:-1]
    return TokenValues(**joined)


def _blocks(rows: int, width: int) -> Iterator[slice]:
    """Slices of `rows` whose rows of `width` float64 are at most 1 MiB together."""
    step = max(1, _BLOCK_BYTES // (8 * width))
    return (slice(start, start + step) for start in range(0, rows, step))


def _compare_rows(
    sides: Sequence[Logits], expected: Logits, nexts: NDArray[np.int64]
) -> tuple[TokenValues, ...]:
    p, places = log_softmax(expected), np.arange(len(nexts))
    reference_loss, chosen = _finite(-p[places, nexts]), expected.argmax(-1)
    found = []
    for got in sides:
        q = log_softmax(got)
        likeliest = np.where(np.isnan(q[:, 0]), _NONE, got.argmax(-1))
        found.append(
            TokenValues(
                loss=_finite(-q[places, nexts]),
                reference_loss=reference_loss,
                right=(likeliest == nexts).astype(np.float64),
                reference_right=(chosen == nexts).astype(np.float64),
                divergence=kl_of_log_probabilities(p, q),
                agreement=(likeliest == chosen).astype(np.float64),
            )
        )
    return tuple(found)


def _finite(values: Floats) -> Floats:
    return np.where(np.isnan(values), np.inf, values)
