"""Answers from an encoder and a decoder, on onnxruntime itself, token by token."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphopt.errors import BadInput
from graphopt.runtime._given import GenerationConfig, ids
from graphopt.runtime._rules import TokenRules
from graphopt.runtime._sampling import Sampling, chooser
from graphopt.runtime._specs import session_specs
from graphopt.runtime._states import states_by_name

__all__ = ["AnswerRules", "EncoderDecoder", "answer"]

_TOKENS, _MASK, _SOURCE_MASK = "input_ids", "attention_mask", "encoder_attention_mask"


class EncoderDecoder:
    """A source, and an answer to it that is fed bit by bit.

    `encoder` and `decoder` are `onnxruntime.InferenceSession`s. What the encoder gives, the decoder takes by
    the same names; it also takes input_ids, encoder_attention_mask where there is one, and keys and values
    [batch, heads, past, head size], and gives logits and the new keys and values. `states` are the names of
    these, as `graphopt.families.Part.states` of the decoder has them; None: by `states_by_name`.
    """

    def __init__(self, encoder: Any, decoder: Any, *, states: Mapping[str, str] | None = None) -> None:
        self._encoder, self._decoder = encoder, decoder
        self._given = [spec.name for spec in encoder.get_outputs()]
        self._results = [spec.name for spec in decoder.get_outputs()]
        named = states_by_name(spec.name for spec in decoder.get_inputs())
        self._present = named if states is None else states
        self._states: dict[str, Any] = {}

    def start(self, feeds: dict[str, NDArray[Any]]) -> None:
        """Take in a source, the encoder's inputs by name, and forget the answer so far."""
        import onnxruntime as ort

        values = {name: ort.OrtValue.ortvalue_from_numpy(array) for name, array in feeds.items()}
        given = self._encoder.run_with_ort_values(self._given, values)
        self._states = dict(zip(self._given, given, strict=True))
        wanted = session_specs(self._decoder.get_inputs())
        if any(spec.name == _SOURCE_MASK for spec in wanted):
            self._states[_SOURCE_MASK] = values[_MASK]
        batch = len(next(iter(feeds.values())))
        for spec in wanted:
            if spec.name in self._present:
                sizes = [dim if isinstance(dim, int) else 0 for dim in spec.dims[1:]]
                empty = np.zeros((batch, *sizes), spec.dtype)
                self._states[spec.name] = ort.OrtValue.ortvalue_from_numpy(empty)

    def append(self, tokens: NDArray[np.int64]) -> NDArray[np.floating[Any]]:
        """Feed `tokens` int64[batch, S] of the answer; the logits [batch, S, vocabulary] behind each."""
        import onnxruntime as ort

        fed = self._states | {_TOKENS: ort.OrtValue.ortvalue_from_numpy(tokens)}
        results = dict(zip(self._results, self._decoder.run_with_ort_values(self._results, fed), strict=True))
        logits: NDArray[np.floating[Any]] = results["logits"].numpy()
        self._states |= {past: results[present] for past, present in self._present.items()}
        return logits


@dataclass(frozen=True)
class AnswerRules:
    """How an answer begins and ends, how long it can be, and what its tokens are chosen by."""

    opening: tuple[int, ...]
    ends: frozenset[int]
    said: GenerationConfig = field(default_factory=GenerationConfig)
    longest: int | None = None

    @classmethod
    def of(cls, folder: Path) -> AnswerRules:
        """What generation_config.json, or else config.json, in `folder` says. `BadInput` without a start."""
        said = GenerationConfig.of(folder, "config.json", "generation_config.json")
        first = said.bos_token_id if said.decoder_start_token_id is None else said.decoder_start_token_id
        if first is None:
            raise BadInput(f"{folder} does not say which token an answer begins with: decoder_start_token_id")
        forced = said.forced_bos_token_id
        opening = (first,) if forced is None else (first, forced)
        return cls(opening, frozenset(ids(said.eos_token_id)), said, said.max_position_embeddings)


def answer(
    model: EncoderDecoder, rules: AnswerRules, source: list[int], count: int, sampling: Sampling | None = None
) -> Iterator[tuple[int, NDArray[np.floating[Any]]]]:
    """At most `count` tokens of the answer to the text `source`, each with the logits it was chosen by.

    A token that the model's settings force to be the first counts as one, and is not among them.
    """
    sampling, said = sampling or Sampling(), rules.said
    choose, row = chooser(sampling), np.asarray([source], np.int64)
    longest = 1 + count if rules.longest is None else min(1 + count, rules.longest)
    score = TokenRules(sampling.ruled(said), rules.ends, prompt=1, longest=longest)
    model.start({_TOKENS: row, _MASK: np.ones_like(row)})
    text = list(rules.opening)
    fed = text
    while len(text) < longest:
        logits = model.append(np.asarray([fed], np.int64))[0, -1:]
        token = int(choose(score(logits, text), text)[0])
        yield token, logits[0]
        text.append(token)
        fed = [token]
