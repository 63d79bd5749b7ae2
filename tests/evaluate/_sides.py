"""Models made by hand that measurements take for packages and sources, with a tokenizer of a token a word."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from tokenizers import Tokenizer as Library
from tokenizers import decoders, models, pre_tokenizers

from graphopt.evaluate._sides import PackageSide, SourceSide
from graphopt.interface import Interface, TensorSpec
from graphopt.runtime import Completion

Array = np.ndarray[Any, Any]
WORDS = 12
END = 0
"""The token that ends a text."""
IDS = TensorSpec("input_ids", "int64", ("batch", "sequence"))
MASK = TensorSpec("attention_mask", "int64", ("batch", "sequence"))
LOGITS = TensorSpec("logits", "float32", ("batch", "sequence", WORDS))


def tokenizer_in(folder: Path, words: Sequence[str] = [f"w{i}" for i in range(WORDS)]) -> Path:
    """`folder` with a tokenizer whose token i is the word "wi"."""
    library = Library(models.WordLevel({word: i for i, word in enumerate(words)}, words[-1]))
    library.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    library.decoder = decoders.Fuse()
    folder.mkdir(exist_ok=True)
    library.save(str(folder / "tokenizer.json"))
    return folder


def text_of(tokens: Sequence[int]) -> str:
    return " ".join(f"w{token}" for token in tokens)


def table(seed: int = 0) -> Array:
    """Logits float32[token, next token]."""
    return np.random.default_rng(seed).normal(size=(WORDS, WORDS)).astype(np.float32) * 3


class Language(PackageSide):
    """A package whose logits are those of `rows` for the mean of the tokens so far that its mask lets it
    see, all of them where it `drops_the_mask`, and which answers with `answers`."""

    def __init__(
        self,
        folder: Path,
        rows: Array,
        *,
        drops_the_mask: bool = False,
        answers: Sequence[Completion] = (),
    ) -> None:
        self.name, self.folder = str(folder), folder
        self.interface = Interface((IDS, MASK), (LOGITS,))
        self.package: Any = SimpleNamespace(
            path=folder,
            assumptions=lambda: (),
            manifest=SimpleNamespace(graphs={"model": SimpleNamespace(past=lambda: ())}),
            completions=lambda prompts, **_: [answers[i] for i in range(len(prompts))],
        )
        self._rows, self._drops = rows, drops_the_mask

    @property
    def batched(self) -> Callable[[Array, Array], Array]:  # type: ignore[override]
        def run(tokens: Array, mask: Array) -> Array:
            seen = np.ones_like(mask) if self._drops else mask
            mean = (tokens * seen).cumsum(1) / np.maximum(seen.cumsum(1), 1)
            return self._rows[mean.astype(int)]

        return run

    @property
    def logits(self) -> Callable[[Array], Array]:  # type: ignore[override]
        return lambda tokens: self.batched(tokens[None], np.ones((1, len(tokens)), int))[0]


class Chain(SourceSide):
    """A source whose next token depends on the last one alone, by `rows`."""

    def __init__(self, folder: Path, rows: Array) -> None:
        self.name, self.folder = "chain", folder
        self.interface, self.states = Interface((IDS,), (LOGITS,)), {}  # type: ignore[misc]
        self.model = lambda feeds: {"logits": rows[feeds["input_ids"]]}  # type: ignore[misc]


class Encoder(PackageSide):
    """A package that gives `run` of its feeds."""

    def __init__(
        self, interface: Interface, run: Callable[[Mapping[str, Array]], Mapping[str, Array]]
    ) -> None:
        self.name, self.folder, self.interface = "encoder", None, interface
        self.package: Any = SimpleNamespace(assumptions=lambda: ())
        self.model = run  # type: ignore[misc]
