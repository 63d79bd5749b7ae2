"""Text generation through onnxruntime-genai."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graphopt.errors import BadInput
from graphopt.runtime._given import GenaiConfig
from graphopt.runtime._installation import check_installation
from graphopt.runtime._threads import default_threads

__all__ = ["Sampling", "TextModel"]

_CONFIG = "genai_config.json"


@dataclass(frozen=True)
class Sampling:
    """How a token is chosen: the likeliest at temperature 0, else drawn from the `top_p` likeliest mass.

    Raises `BadInput` for a `seed` that is negative (onnxruntime-genai takes it for none) or beyond 31 bits.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None

    def __post_init__(self) -> None:
        if self.seed is not None and not 0 <= self.seed < 1 << 31:
            raise BadInput(f"the seed {self.seed} is not between 0 and {(1 << 31) - 1}")

    def options(self) -> dict[str, Any]:
        """Search options as onnxruntime-genai names them."""
        if self.temperature <= 0:
            return {"do_sample": False}
        seed = {} if self.seed is None else {"random_seed": self.seed}
        return {"do_sample": True, "temperature": self.temperature, "top_p": self.top_p, "top_k": 0, **seed}


class TextModel:
    """A package folder opened for generation, with threads for the machine it is on.

    Raises `BadInput` where the folder has no genai_config.json or onnxruntime-genai cannot load it.
    """

    def __init__(self, folder: str | Path, *, threads: int | None = None) -> None:
        self.folder = Path(folder)
        if not (self.folder / _CONFIG).is_file():
            raise BadInput(
                f"{self.folder} does not generate text: it has no {_CONFIG}",
                hint="Run other models with --inputs FILE.npz.",
            )
        check_installation()
        check_installation("onnxruntime_genai")
        import onnxruntime_genai as og

        from graphopt._texts import Tokenizer

        self._og = og
        self._encoder = Tokenizer(self.folder)
        try:
            config = og.Config(str(self.folder))
            session = {"intra_op_num_threads": threads or default_threads()}
            config.overlay(json.dumps({"model": {"decoder": {"session_options": session}}}))
            self._model = og.Model(config)
            self._tokenizer = og.Tokenizer(self._model)
        except RuntimeError as error:
            raise BadInput(f"onnxruntime-genai cannot load {self.folder}: {error}") from error
        self.context_length = GenaiConfig.of(self.folder, _CONFIG).model.context_length
        """Tokens of prompt and answer together that the model was trained for."""

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`, after what the tokenizer opens a text with, unless it begins so itself.

        By the tokenizers library: onnxruntime-genai leaves out a beginning-of-sequence token that
        tokenizer.json asks for in its post-processor.
        """
        return self._encoder.opened(text)

    def generate(
        self, prompt: str, *, max_new_tokens: int = 128, sampling: Sampling | None = None
    ) -> Iterator[str]:
        """Pieces of the answer to `prompt` as they come, until its end, `max_new_tokens` or a full context.

        Raises `BadInput` for an empty prompt, for one that leaves no room in the context, and where
        onnxruntime-genai fails.
        """
        tokens = self._encoder.prompt(prompt, self.context_length)
        return self._stream(
            tokens, min(len(tokens) + max_new_tokens, self.context_length), sampling or Sampling()
        )

    def _stream(self, tokens: list[int], length: int, sampling: Sampling) -> Iterator[str]:
        try:
            parameters = self._og.GeneratorParams(self._model)
            parameters.set_search_options(max_length=length, **sampling.options())
            generator = self._og.Generator(self._model, parameters)
            generator.append_tokens(tokens)
            stream = self._tokenizer.create_stream()
            while not generator.is_done():
                generator.generate_next_token()
                piece = stream.decode(generator.get_next_tokens()[0])
                if piece:
                    yield piece
        except RuntimeError as error:
            raise BadInput(f"onnxruntime-genai cannot run {self.folder}: {error}") from error
