"""Causal language models as functions from tokens to logits."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphopt.errors import BadInput
from graphopt.interface import TensorSpec
from graphopt.runtime import session_specs, states_by_name

__all__ = ["Logits", "reference_logits", "session_logits", "whole_batch", "whole_sequence"]

Logits = Callable[[NDArray[np.int64]], NDArray[np.floating[Any]]]
"""A causal language model: from tokens int64[S] to logits [S, vocabulary]."""


def whole_sequence(
    inputs: Iterable[TensorSpec], tokens: NDArray[np.int64], states: Container[str] | None = None
) -> dict[str, NDArray[Any]]:
    """Feeds for one unpadded sequence int64[S] with an empty cache, asking for the logits of every position.

    A dimension of one of the `states` (None: by `states_by_name`) that is not a number is batch where it is
    first and the past's length elsewhere. `BadInput` for an input of unknown meaning.
    """
    return whole_batch(inputs, tokens[None], np.ones((1, len(tokens)), np.int64), states)


def whole_batch(
    inputs: Iterable[TensorSpec],
    tokens: NDArray[np.int64],
    mask: NDArray[np.int64],
    states: Container[str] | None = None,
) -> dict[str, NDArray[Any]]:
    """The same for a batch of sequences int64[B, S], of which those places count where `mask` is 1."""
    (batch, length), inputs = tokens.shape, list(inputs)
    if states is None:
        states = states_by_name(spec.name for spec in inputs)
    known: dict[str, NDArray[Any]] = {
        "input_ids": tokens,
        "attention_mask": mask,
        "position_ids": np.maximum(mask.cumsum(1) - 1, 0) * mask,
        "logits_to_keep": np.asarray([length], np.int64),
    }
    feeds = {}
    for spec in inputs:
        if spec.name in known:
            feeds[spec.name] = known[spec.name]
        elif spec.name in states:
            shape = [
                d if isinstance(d, int) else batch if axis == 0 else 0 for axis, d in enumerate(spec.dims)
            ]
            feeds[spec.name] = np.zeros(shape, spec.dtype)
        else:
            raise BadInput(f"input {spec.name!r} is not one of a causal language model's")
    return feeds


def session_logits(session: Any, states: Container[str] | None = None) -> Logits:
    """The causal language model behind an `onnxruntime.InferenceSession`; `states` as for `whole_sequence`.

    `BadInput` for tokens that it does not have: kernels of packed tables would give zeros for them.
    """
    inputs = session_specs([*session.get_inputs(), *session.get_overridable_initializers()])
    size = next(spec.shape[-1] for spec in session.get_outputs() if spec.name == "logits")

    def logits(tokens: NDArray[np.int64]) -> NDArray[np.floating[Any]]:
        if isinstance(size, int) and tokens.max(initial=0) >= size:
            raise BadInput(
                f"the text has token {tokens.max()}, and the model has {size} tokens",
                hint="The tokenizer is not this model's, or has had tokens added that the model has not.",
            )
        (result,) = session.run(["logits"], whole_sequence(inputs, tokens, states))
        return result[0]  # type: ignore[no-any-return]

    return logits


def reference_logits(
    reference: Callable[[Mapping[str, NDArray[Any]]], Mapping[str, NDArray[Any]]],
    inputs: Iterable[TensorSpec],
    states: Container[str] | None = None,
) -> Logits:
    """The same for a `graphopt.families.Reference` whose interface has these `inputs`."""
    known = list(inputs)
    return lambda tokens: reference(whole_sequence(known, tokens, states))["logits"][0]
