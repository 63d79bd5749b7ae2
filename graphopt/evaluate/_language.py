"""How far a language model is from its reference on text."""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path
from typing import Any

from graphopt.evaluate._accuracy import LanguageAccuracy, compare_language_models
from graphopt.evaluate._corpus import Corpus, sequences
from graphopt.evaluate._logits import Logits, reference_logits, session_logits
from graphopt.interface import Interface, Model
from graphopt.runtime import Tokenizer, context_length

__all__ = ["TEXT_GENERATION", "as_logits", "measure_language"]

TEXT_GENERATION = "text-generation"
"""The task, as transformers calls it, of models that are measured on text."""


def as_logits(model: Model, interface: Interface, states: Container[str] | None = None) -> Logits:
    """A causal language model that takes the inputs of `interface`, from tokens int64[S] to logits[S, V].

    `states` as for `whole_sequence`.
    """
    return reference_logits(model, interface.inputs, states)


def measure_language(
    session: Any,
    reference: Logits,
    folder: Path,
    text: Corpus,
    tokens: int,
    states: Container[str] | None = None,
) -> LanguageAccuracy:
    """Compare the language model in `session`, whose files are in `folder`, with `reference` on `text`.

    `states` are the session's, as for `whole_sequence`.
    """
    found = list(sequences(text, Tokenizer(folder), tokens=tokens, context=context_length(folder)))
    return compare_language_models(
        session_logits(session, states),
        reference,
        [window.tokens for window in found],
        [window.document for window in found],
    )
