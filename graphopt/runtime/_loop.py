"""Text generation in a loop of our own: for drafts, and for caches that onnxruntime-genai would copy."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphopt.errors import BadInput
from graphopt.runtime._decode import Decoder
from graphopt.runtime._generate import Sampling
from graphopt.runtime._given import GenaiConfig
from graphopt.runtime._session import open_session
from graphopt.runtime._speculate import Speculation

__all__ = ["LoopModel", "chooser"]

_CONFIG = "genai_config.json"
_CANDIDATES = 256


class LoopModel:
    """A package folder opened for generation without onnxruntime-genai, one buffer being past and present.

    With `speculate` it drafts what the text said before, and checks several tokens a call. Raises `BadInput`
    where the folder is not made for generating text.
    """

    def __init__(self, folder: str | Path, *, threads: int | None = None, speculate: bool = False) -> None:
        from graphopt._texts import Tokenizer

        folder = Path(folder)
        if not (folder / _CONFIG).is_file():
            raise BadInput(f"{folder} does not generate text: it has no {_CONFIG}")
        described = GenaiConfig.of(folder, _CONFIG)
        self.context_length = described.model.context_length
        self._shared = described.search.past_present_share_buffer
        ends = described.model.eos_token_id
        self._ends = frozenset(() if ends is None else ends if isinstance(ends, list) else (ends,))
        self._speculate = speculate
        self._tokenizer = Tokenizer(folder)
        self._session = open_session(folder, threads=threads)

    def generate(
        self, prompt: str, *, max_new_tokens: int = 128, sampling: Sampling | None = None
    ) -> Iterator[str]:
        """Pieces of the answer to `prompt` as they come, until its end, `max_new_tokens` or a full context.

        Raises `BadInput` for an empty prompt, and for one that leaves no room in the context.
        """
        tokens = self._tokenizer.prompt(prompt, self.context_length)
        limit = min(max_new_tokens, self.context_length - len(tokens))
        decoder = Decoder(self._session, capacity=len(tokens) + limit if self._shared else None)
        choose = chooser(sampling or Sampling(), lambda: decoder.length)
        found = Speculation(decoder, choose) if self._speculate else Speculation(decoder, choose, longest=0)
        return self._pieces(found.tokens(tokens, limit))

    def _pieces(self, tokens: Iterator[int]) -> Iterator[str]:
        piece_of = self._tokenizer.pieces()
        for token in tokens:
            if token in self._ends:
                return
            piece = piece_of(token)
            if piece:
                yield piece


def chooser(sampling: Sampling, length: Callable[[], int]) -> Callable[[NDArray[Any]], NDArray[np.int64]]:
    """What picks tokens int64[S] from logits [S, vocabulary], the last of them that of token `length()`.

    A token is drawn by a number that depends on the seed and its place alone, so that the same seed makes the
    same text however many tokens are looked at in one call.
    """
    if sampling.temperature <= 0:
        return lambda logits: logits.argmax(-1)
    seed = secrets.randbits(64) if sampling.seed is None else sampling.seed

    def draw(logits: NDArray[Any], place: int) -> int:
        scaled = logits.astype(np.float64) / sampling.temperature
        weights = np.exp(scaled - scaled.max())
        wanted = sampling.top_p * weights.sum()
        order, mass = _likeliest(weights, wanted) if sampling.top_p < 1 else _all(weights)
        kept = mass[: int(np.searchsorted(mass, wanted)) + 1]
        number = np.random.default_rng((seed, place)).random() * kept[-1]
        return int(order[np.searchsorted(kept, number, side="right")])

    def choose(logits: NDArray[Any]) -> NDArray[np.int64]:
        first = length() - len(logits) + 1
        return np.asarray([draw(row, first + i) for i, row in enumerate(logits)])

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
