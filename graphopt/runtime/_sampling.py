"""How the next token is chosen from its scores."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphopt.errors import BadInput
from graphopt.runtime._given import GenerationConfig

__all__ = ["Choice", "Sampling", "chooser"]

Choice = Callable[[NDArray[Any], Sequence[int]], NDArray[np.int64]]
"""Picks tokens int64[S] from logits [S, vocabulary]; the last row follows the text, others one token less."""

_CANDIDATES = 256  # looked at first: mostly enough for a top-p of 0.95, and quickly sorted


@dataclass(frozen=True)
class Sampling:
    """How a token is chosen: the likeliest at temperature 0, else drawn from the `top_p` likeliest mass.

    `repetition_penalty` divides the scores of tokens that the text holds already, prompt included; None is
    what the model's generation settings say. Raises `BadInput` for a penalty that is not positive, and a
    `seed` that is negative or beyond 31 bits.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    repetition_penalty: float | None = None

    def __post_init__(self) -> None:
        if self.seed is not None and not 0 <= self.seed < 1 << 31:
            raise BadInput(f"the seed {self.seed} is not between 0 and {(1 << 31) - 1}")
        if self.repetition_penalty is not None and not self.repetition_penalty > 0:
            raise BadInput(f"the repetition penalty {self.repetition_penalty} is not above 0")

    def ruled(self, said: GenerationConfig) -> GenerationConfig:
        """What the model's settings say, and this instead."""
        if self.repetition_penalty is None:
            return said
        return said.model_copy(update={"repetition_penalty": self.repetition_penalty})


def chooser(sampling: Sampling) -> Choice:
    """What picks tokens as `sampling` says.

    A token is drawn by a number that depends on the seed and its place alone, so that the same seed makes the
    same text however many tokens are looked at in one call.
    """
    if sampling.temperature <= 0:
        return lambda scores, text: scores.argmax(-1)
    seed = secrets.randbits(64) if sampling.seed is None else sampling.seed

    def draw(scores: NDArray[Any], place: int) -> int:
        scaled = scores.astype(np.float64) / sampling.temperature
        if np.isneginf(scaled.max()):
            return 0  # nothing is allowed: as of the likeliest token
        weights = np.exp(scaled - scaled.max())
        wanted = sampling.top_p * weights.sum()
        order, mass = _likeliest(weights, wanted) if sampling.top_p < 1 else _all(weights)
        kept = mass[: int(np.searchsorted(mass, wanted)) + 1]
        number = np.random.default_rng((seed, place)).random() * kept[-1]
        return int(order[np.searchsorted(kept, number, side="right")])

    def choose(scores: NDArray[Any], text: Sequence[int]) -> NDArray[np.int64]:
        first = len(text) - len(scores) + 1
        return np.asarray([draw(row, first + i) for i, row in enumerate(scores)])

    return choose


def _all(weights: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    return np.arange(len(weights)), np.cumsum(weights)


def _likeliest(weights: NDArray[np.float64], mass: float) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The largest weights, the largest first, that together reach `mass`, and some more: their places, and
    how much they and all before them weigh. A vocabulary is too large to sort for every token."""
    count = min(_CANDIDATES, len(weights))
    while True:
        places = np.argpartition(weights, -count)[-count:] if count < len(weights) else np.arange(count)
        places = places[np.argsort(-weights[places], kind="stable")]
        total = np.cumsum(weights[places])
        if total[-1] >= mass or count == len(weights):
            return places, total
        count = min(8 * count, len(weights))
