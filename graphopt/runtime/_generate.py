"""Text generation on onnxruntime, in a native decode loop: one buffer is past and present at once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from graphopt.errors import BadInput
from graphopt.runtime._decode import Decoder
from graphopt.runtime._given import GENAI, GENERATION, GenaiConfig, GenerationConfig, ids
from graphopt.runtime._rules import TokenRules
from graphopt.runtime._sampling import Sampling, chooser
from graphopt.runtime._speculate import Speculation
from graphopt.runtime._stops import until

if TYPE_CHECKING:
    from graphopt.runtime._tokenizer import Tokenizer

__all__ = ["Answer", "Completion", "TextModel", "TokenLogprob"]


@dataclass(frozen=True)
class TokenLogprob:
    """A token of an answer: what it stands for, the logarithm of its probability, and the likeliest ones.

    Probabilities are the model's own: before penalties, temperature and whatever else chooses.
    """

    id: int
    token: str
    logprob: float
    top_logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True)
class Completion:
    """An answer that is complete. `finish_reason` is "stop" at its end or a stop string, else "length"."""

    text: str
    prompt_tokens: int
    tokens: tuple[int, ...]
    finish_reason: Literal["stop", "length"]
    logprobs: tuple[TokenLogprob, ...] | None = None


class Answer(Iterator[str]):
    """The pieces of an answer as they come; `completion`, when it has ended, is all that is known of it.

    `steps` are tokens with the logits they were chosen by, after `prompt` tokens. One of `ends` ends it, and
    so does a string of `stop`. `top` of the likeliest tokens are kept for each; None keeps no probabilities.
    """

    def __init__(
        self,
        steps: Iterator[tuple[int, NDArray[Any]]],
        tokenizer: Tokenizer,
        ends: Collection[int],
        *,
        prompt: int,
        stop: Sequence[str] = (),
        top: int | None = None,
    ) -> None:
        self._steps, self._tokenizer, self._ends = steps, tokenizer, ends
        self._prompt, self._top = prompt, top
        self._tokens: list[int] = []
        self._logprobs: list[TokenLogprob] = []
        self._text = ""
        self._stopped = False
        self._pieces = until(tokenizer.pieces().of(self._new()), stop, self._end)

    def __next__(self) -> str:
        piece = next(self._pieces)
        self._text += piece
        return piece

    def completion(self) -> Completion:
        """What there is, after the rest has come."""
        for _ in self:
            pass
        return Completion(
            self._text,
            self._prompt,
            tuple(self._tokens),
            "stop" if self._stopped else "length",
            None if self._top is None else tuple(self._logprobs),
        )

    def _new(self) -> Iterator[int]:
        """The tokens before the end."""
        for token, logits in self._steps:
            if token in self._ends:
                self._end()
                return
            self._tokens.append(token)
            if self._top is not None:
                self._logprobs.append(self._logprob(token, logits, self._top))
            yield token

    def _end(self) -> None:
        self._stopped = True

    def _logprob(self, token: int, logits: NDArray[Any], top: int) -> TokenLogprob:
        wide = logits.astype(np.float64)
        wide -= wide.max()
        wide -= np.log(np.exp(wide).sum())
        best = np.argsort(-wide, kind="stable")[:top].tolist()
        word = self._tokenizer.word
        likeliest = tuple(TokenLogprob(each, word(each), float(wide[each])) for each in best)
        return TokenLogprob(token, word(token), float(wide[token]), likeliest)


class TextModel:
    """A package folder opened for generation.

    `session` opens its graph, once the rest of the folder is understood, and `decoder` gives what decodes a
    text with that, as `Target.decoder` does. With `speculate` it drafts what the text said before, and checks
    several tokens a call. `states` as for `Decoder`. Raises `BadInput` where the folder is not made for
    generating text.
    """

    def __init__(
        self,
        folder: str | Path,
        session: Callable[[], Any],
        decoder: Callable[..., Decoder] = Decoder.of,
        *,
        speculate: bool = False,
        states: Mapping[str, str] | None = None,
    ) -> None:
        from graphopt.runtime._tokenizer import Tokenizer

        self.folder = folder = Path(folder)
        if not (folder / GENAI).is_file():
            raise BadInput(
                f"{folder} does not generate text: it has no {GENAI}",
                hint="Run other models with --inputs FILE.npz.",
            )
        described = GenaiConfig.of(folder, GENAI)
        self._model = described.model
        found = (folder / GENERATION).is_file()
        self._said = GenerationConfig.of(folder, GENERATION) if found else described.search
        self.context_length = self._model.context_length
        """Tokens of prompt and answer together that the model was trained for."""
        self.ends = frozenset(ids(self._model.eos_token_id))
        """Tokens that end an answer."""
        self._speculate, self._states = speculate, states
        self.tokenizer = Tokenizer(folder)
        self._decoder, self._session = decoder, session()

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`, after what the tokenizer opens a text with, unless it begins so itself."""
        return self.tokenizer.opened(text)

    def generate(
        self,
        prompt: str,
        *,
        max_new_tokens: int = 128,
        sampling: Sampling | None = None,
        stop: Sequence[str] = (),
        logprobs: int | None = None,
    ) -> Answer:
        """The answer to `prompt`, until its end, one of `stop`, `max_new_tokens` or a full context.

        What generation_config.json says of penalties, tokens that are not allowed, the least length and stop
        strings holds as in transformers; a stop string itself is left out. `logprobs` asks for the
        probability of each token, and of so many likeliest ones beside it.

        Raises `BadInput` for an empty prompt, one that leaves no room in the context, and one with tokens
        that the model does not know.
        """
        tokens = self.tokenizer.prompt(prompt, self.context_length)
        self._refuse_unknown(tokens)
        sampling = sampling or Sampling()
        said = sampling.ruled(self._said)
        limit = min(max_new_tokens, self.context_length - len(tokens))
        length = len(tokens) + limit
        decoder = self._decoder(self.folder, self._session, length=length, states=self._states)
        rules = TokenRules(said, self.ends, prompt=len(tokens), longest=len(tokens) + limit)
        draw = chooser(sampling)
        loop = Speculation(
            decoder,
            lambda logits, text: draw(rules(logits, text), text),
            **({} if self._speculate else {"longest": 0}),
        )
        steps, stops = loop.steps(tokens, limit), [*said.stops, *stop]
        return Answer(steps, self.tokenizer, self.ends, prompt=len(tokens), stop=stops, top=logprobs)

    def _refuse_unknown(self, tokens: list[int]) -> None:
        size = self._model.vocab_size
        unknown = next((token for token in tokens if size is not None and token >= size), None)
        if unknown is not None:
            raise BadInput(
                f"the tokenizer gives token {unknown} for {self.tokenizer.word(unknown)!r}, "
                f"and the model has {size} tokens",
                hint="The tokenizer is not this model's, or has had tokens added that the model has not.",
            )
