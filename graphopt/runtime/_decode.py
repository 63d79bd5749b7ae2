"""Decoding token by token on onnxruntime itself, the cache bound in place and never copied."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphopt.errors import BadInput
from graphopt.runtime._given import GENAI, GenaiConfig
from graphopt.runtime._states import states_by_name

__all__ = ["LOGITS", "Decoder"]

_TOKENS = {"input_ids", "attention_mask", "position_ids"}
_KEEP = "logits_to_keep"
LOGITS = "logits"
_LONG = 32  # tokens of a call that makes the arena large; drafts (16 at most) come too often to give back
_DTYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(int8)": np.int8,
    "tensor(uint8)": np.uint8,
}


class Decoder:
    """A causal language model that is fed an unpadded text bit by bit: a prompt, chunks of it, tokens.

    `session` is an `onnxruntime.InferenceSession` on the CPU whose inputs are input_ids and, where the model
    has them, attention_mask, position_ids, logits_to_keep and its states, which are keys and values
    [batch, kv_heads, past, head_size] or of one size; outputs are logits and the new states. `states` are
    their names, as `graphopt.families.Part.states` has them; None: by `states_by_name`.

    Without `capacity` the cache grows: each call's present is bound as the next call's past. With it, one
    buffer of `capacity` positions is past and present at once, which only a graph allows whose attention
    writes in place (GroupQueryAttention); other graphs compute nonsense from it. Everything is then bound to
    memory that exists already, and a call makes none.

    `batch` texts of the same length are fed side by side.

    A text that grows past `restart_at` tokens is read again from its beginning: with long RoPE, keys that
    were made for a short text are turned otherwise than those of a long one.

    Raises `BadInput` for a graph with other inputs or a cache of unknown size.
    """

    def __init__(
        self,
        session: Any,
        *,
        batch: int = 1,
        capacity: int | None = None,
        restart_at: int | None = None,
        states: Mapping[str, str] | None = None,
    ) -> None:
        self._session = session
        self.batch = batch
        self.capacity = capacity
        self._restart_at = restart_at
        self._text = np.empty((batch, 0), np.int64)
        inputs = session.get_inputs()
        self._inputs = {spec.name for spec in [*inputs, *session.get_overridable_initializers()]}
        self._present = states_by_name(spec.name for spec in inputs) if states is None else states
        self._past = [spec for spec in inputs if spec.name in self._present]
        for spec in inputs:
            if spec.name not in _TOKENS | {_KEEP} | self._present.keys():
                raise BadInput(f"input {spec.name!r} is not one of a causal language model's")
        self._binding: Any = None
        self._after_long: Any = None
        self._bound: dict[str, NDArray[Any]] = {}
        self._ones = np.ones(batch * (capacity or 0), np.int64)
        self._positions = np.arange(capacity or 0)
        self.reset()

    @classmethod
    def of(
        cls,
        folder: Path,
        session: Any,
        *,
        length: int,
        batch: int = 1,
        states: Mapping[str, str] | None = None,
    ) -> Decoder:
        """One for texts of at most `length` tokens, by what the files in `folder` say of the graph."""
        if not (folder / GENAI).is_file():
            return cls(session, batch=batch, states=states)
        said = GenaiConfig.of(folder, GENAI)
        capacity = length if said.search.past_present_share_buffer else None
        restart_at = said.graphopt.restart_at
        return cls(session, batch=batch, capacity=capacity, restart_at=restart_at, states=states)

    @property
    def vocabulary(self) -> int:
        """How many tokens the model knows."""
        (logits,) = (spec for spec in self._session.get_outputs() if spec.name == LOGITS)
        return int(logits.shape[-1])

    @property
    def room(self) -> int:
        """How many tokens may come with the next one before the text is read again."""
        if self._restart_at is None or self.length >= self._restart_at:
            return sys.maxsize
        return self._restart_at - self.length - 1

    def reset(self) -> None:
        """Forget the text so far."""
        self._text = self._text[:, :0]
        self.length = 0
        """Tokens fed since the last reset, which is how many positions of the cache are in use."""
        if self.capacity is None or self._binding is None:
            self._begin()

    def _begin(self) -> None:
        """An empty cache."""
        self._cache = {spec.name: _value(self._empty(spec)) for spec in self._past}

    def rewind(self, length: int) -> None:
        """Forget all but the first `length` tokens of the text so far."""
        assert 0 <= length <= self.length
        if length < self.length and any(all(isinstance(d, int) for d in x.shape[1:]) for x in self._past):
            raise BadInput("a state that does not grow cannot be rewound")
        if self.capacity is None and length < self.length:
            self._cut(length)
        self._text = self._text[:, :length]
        self.length = length

    def _cut(self, length: int) -> None:
        """Keep the first `length` positions of a cache that grows."""
        self._cache = {name: _value(v.numpy()[:, :, :length]) for name, v in self._cache.items()}

    def cache(self) -> dict[str, NDArray[Any]]:
        """Copies of the text's keys and values so far, [batch, kv_heads, length, head_size], by input."""
        return {name: value.numpy()[:, :, : self.length] for name, value in self._cache.items()}

    def append(self, tokens: NDArray[np.int64], *, keep: int = 1) -> NDArray[np.floating[Any]]:
        """Feed `tokens` int64[batch, S] (or [S]); the logits [batch, keep, vocabulary] of the last ones.

        They are a view of memory that the next call writes to. Raises `BadInput` where the cache's capacity
        is too small for the tokens.
        """
        tokens = np.ascontiguousarray(np.atleast_2d(tokens), np.int64)
        if self._restart_at is not None:
            text = np.concatenate([self._text, tokens], axis=1)
            if self.length <= self._restart_at < text.shape[1]:
                self.reset()
                tokens = text
            self._text = text
        total = self.length + tokens.shape[1]
        if self.capacity is not None and total > self.capacity:
            raise BadInput(f"{total} tokens do not fit in a cache of {self.capacity}")
        result = self._step(tokens, total, keep)
        self.length = total
        return result

    def _step(self, tokens: NDArray[np.int64], total: int, keep: int) -> NDArray[np.floating[Any]]:
        """The logits of the last `keep` of `tokens`, after which the text has `total`."""
        if self._binding is None:
            self._binding = self._session.io_binding()
            self._after_long = _giving_back(self._session)
            self._binding.bind_output(LOGITS, "cpu")  # outputs come in the order of their first binding
            if self.capacity is not None:
                self._share()
        for name, array in self._tokens(tokens, total, keep).items():
            self._feed(name, array)
        # Anew each time: bound memory would have to fit the one position that the graph may declare.
        self._binding.bind_output(LOGITS, "cpu")
        if self.capacity is None:
            self._grow()
        self._session.run_with_iobinding(self._binding, self._after_long if tokens.shape[1] > _LONG else None)
        logits, *present = self._binding.get_outputs()
        if self.capacity is None:
            self._cache = dict(zip(self._cache, present, strict=True))
        self._result = logits
        return self._view(logits)[:, -keep:]

    def _tokens(self, tokens: NDArray[np.int64], total: int, keep: int) -> dict[str, NDArray[np.int64]]:
        """What the graph takes of what says which tokens are fed, and where."""
        if total > len(self._positions):
            self._positions = np.arange(2 * total)
            self._ones = np.ones(self.batch * 2 * total, np.int64)
        positions = self._positions[self.length : total]
        given = {
            "input_ids": tokens,
            "attention_mask": self._ones[: self.batch * total].reshape(self.batch, total),
            "position_ids": np.ascontiguousarray(np.broadcast_to(positions, tokens.shape)),
            _KEEP: np.asarray([keep], np.int64),
        }
        return {name: array for name, array in given.items() if name in self._inputs}

    def _feed(self, name: str, array: NDArray[np.int64]) -> None:
        """Bind `array` as it lies in memory; it is kept alive until another takes its place."""
        self._bound[name] = array
        self._binding.bind_input(name, "cpu", 0, np.int64, array.shape, array.ctypes.data)

    def _view(self, value: Any) -> NDArray[np.floating[Any]]:
        """The array that an OrtValue on the CPU holds, where it lies: a vocabulary is too large to copy."""
        kind, shape = np.dtype(_DTYPES[value.data_type()]), value.shape()
        size = prod(shape) * kind.itemsize
        memory = (ctypes.c_byte * size).from_address(value.data_ptr())
        return np.frombuffer(memory, kind).reshape(shape)

    def _share(self) -> None:
        """Bind the cache as past and present, for good."""
        for name, value in self._cache.items():
            self._binding.bind_ortvalue_input(name, value)
            self._binding.bind_ortvalue_output(self._present[name], value)

    def _grow(self) -> None:
        """Bind the cache as past, and room that the runtime makes as present."""
        for name, value in self._cache.items():
            self._binding.bind_ortvalue_input(name, value)
            self._binding.bind_output(self._present[name], "cpu")

    def _empty(self, spec: Any) -> NDArray[Any]:
        unknown = sum(not isinstance(dim, int) for dim in spec.shape[1:])
        if unknown > 1 or spec.type not in _DTYPES:
            raise BadInput(f"the size of the cache {spec.name!r}, {spec.type}{spec.shape}, is unknown")
        if not unknown and self.capacity is not None:
            raise BadInput(f"{spec.name!r} does not grow: it cannot be past and present at once")
        sizes = [dim if isinstance(dim, int) else self.capacity or 0 for dim in spec.shape[1:]]
        return np.zeros((self.batch, *sizes), _DTYPES[spec.type])


def _giving_back(session: Any) -> Any:
    """Options of a run after which the runtime keeps no memory that only long runs need, if it keeps any."""
    import onnxruntime as ort

    if not session.get_session_options().enable_cpu_mem_arena:
        return None
    options = ort.RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return options


def _value(array: NDArray[Any]) -> Any:
    """An OrtValue of the array's own memory."""
    import onnxruntime as ort

    return ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array))
