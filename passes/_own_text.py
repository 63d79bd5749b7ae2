"""Text that a model writes itself, to calibrate it on."""

from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from graphopt.calibrate import CalibrationData, from_windows
from graphopt.errors import BadInput
from graphopt.ir import save_model
from graphopt.pipeline import Context
from graphopt.runtime import Decoder, default_threads, open_session

__all__ = ["continued", "opened", "with_own_text"]

_LONGEST = 512
"""Tokens of a text: as many as a call on given text reads. From half as many is learned in half the time, and
less: docs/decisions/compression.md."""
_TEXTS = 32
"""Written together by one thread: products of so many rows are no longer bound by memory."""
_WORK = 1 << 39
"""Weights times tokens: a minute's work, as one reads memory for few texts at once."""
_LEAST = 8192
"""Tokens: fewer are not worth the trouble beside as many that are given."""
_NAME = "text of its own"


def with_own_text(context: Context, graph: ir.Graph, tokens: int) -> CalibrationData | None:
    """The calibration data of `context`, and `tokens` at most that the model writes by itself among them.

    A model drawn from at its own probabilities goes where it goes in use, in every language it knows, and
    there is as much of it as one has time for: rounding that is learned on text the model wrote generalizes
    better than on a little text of others (LLM-QAT, arXiv 2305.17888). It is the same for any number of
    threads. What was given alone, with a note, where the model writes no text.
    """
    given, domain = context.calibration, context.domain
    weights = sum(v.const_value.size for v in graph.initializers.values() if v.const_value is not None)
    tokens = min(tokens, _WORK // max(1, weights))
    if tokens < _LEAST or (given is not None and not given.windows):
        return given
    made = context.remember([_NAME, tokens], lambda: {"tokens": _written(context, tokens)})["tokens"]
    if domain is None or not made.size:
        return given
    windows = [*made] if given is None else _interleaved(given.windows, made)
    name = _NAME if given is None else f"{given.name} and {_NAME}"
    return from_windows(name, windows, domain) or given


def _interleaved(given: tuple[NDArray[np.int64], ...], others: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Both, each evenly over the whole, so that what is held out of it has its share of both.

    Texts that are given are read in parts no longer than the others.
    """
    longest = others.shape[1]
    texts = [text[at : at + longest] for text in given for at in range(0, len(text), longest)]
    places = [((i + 0.5) / len(texts), text) for i, text in enumerate(texts)]
    places += [((i + 0.5) / len(others), text) for i, text in enumerate(others)]
    return [text for _, text in sorted(places, key=lambda pair: pair[0])]


def _written(context: Context, tokens: int) -> NDArray[np.int64]:
    """Texts int64 [N, S] of `tokens` or a few more; none, with a note, of what is no language model."""
    domain = context.domain
    length = min(_LONGEST, (domain.positions if domain is not None else None) or _LONGEST)
    batches = ceil(tokens / (length * _TEXTS))
    try:
        if domain is None or not context.states:
            raise BadInput("it is no language model that goes on from a state")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            save_model(context.model, path)
            session, opening = open_session(path, threads=1), context.config.get("bos_token_id")

            def write(seed: int) -> NDArray[np.int64]:
                decoder = Decoder(session, batch=_TEXTS, states=context.states)
                rng = np.random.default_rng(seed)
                return continued(decoder, opened(decoder, 1, opening, rng), length, rng)

            with ThreadPoolExecutor(default_threads()) as pool:
                texts = context.watch([pool.submit(write, seed) for seed in range(batches)], "writing text")
                return np.concatenate([text.result() for text in texts])
    except BadInput as error:
        context.note(f"calibrated without text that the model writes: {error}")
        return np.empty((0, length), np.int64)


def continued(
    decoder: Decoder, prompt: NDArray[np.int64], length: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """int64 [batch, length]: the `prompt` [batch, ..], and what the model draws after it.

    `decoder` has been fed all of it but the last token.
    """
    tokens = np.empty((decoder.batch, length), np.int64)
    place = prompt.shape[1]
    tokens[:, :place] = new = prompt
    while place < length:
        logits = decoder.append(new)[:, -1]
        weights = np.exp(logits - logits.max(-1, keepdims=True)).cumsum(-1, dtype=np.float64)
        drawn = rng.random((decoder.batch, 1)) * weights[:, -1:]
        tokens[:, place] = np.minimum((weights <= drawn).sum(-1), decoder.vocabulary - 1)
        new = tokens[:, place : place + 1]
        place += 1
    return tokens


def opened(decoder: Decoder, count: int, opening: Any, rng: np.random.Generator) -> NDArray[np.int64]:
    """Random tokens int64 [batch, count], of which the first is `opening` if there is one."""
    tokens = rng.integers(0, decoder.vocabulary, (decoder.batch, count))
    if isinstance(opening, int):
        tokens[:, 0] = opening
    return tokens
