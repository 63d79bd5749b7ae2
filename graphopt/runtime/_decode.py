"""Decoding token by token on onnxruntime itself, the cache bound in place and never copied."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphopt.errors import BadInput

__all__ = ["Decoder"]

_PAST, _PRESENT = "past_key_values.", "present."
_TOKENS = {"input_ids", "attention_mask", "position_ids"}
_KEEP = "logits_to_keep"
_DTYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(int8)": np.int8,
    "tensor(uint8)": np.uint8,
}


class Decoder:
    """A causal language model that is fed an unpadded text bit by bit: a prompt, chunks of it, tokens.

    `session` is an `onnxruntime.InferenceSession` on the CPU whose inputs are input_ids and, where the model
    has them, attention_mask, position_ids, logits_to_keep and past_key_values.N.key and .value
    [batch, kv_heads, past, head_size]; outputs are logits and present.N.key and .value.

    Without `capacity` the cache grows: each call's present is bound as the next call's past. With it, one
    buffer of `capacity` positions is past and present at once, which only a graph allows whose attention
    writes in place (GroupQueryAttention); other graphs compute nonsense from it.

    Raises `BadInput` for a graph with other inputs or a cache of unknown size.
    """

    def __init__(self, session: Any, *, batch: int = 1, capacity: int | None = None) -> None:
        self._session = session
        self._batch = batch
        self.capacity = capacity
        inputs = session.get_inputs()
        self._inputs = {spec.name for spec in [*inputs, *session.get_overridable_initializers()]}
        self._past = [spec for spec in inputs if spec.name.startswith(_PAST)]
        for spec in inputs:
            if spec.name not in _TOKENS | {_KEEP} and not spec.name.startswith(_PAST):
                raise BadInput(f"input {spec.name!r} is not one of a causal language model's")
        self.reset()

    @property
    def vocabulary(self) -> int:
        """How many tokens the model knows."""
        (logits,) = (spec for spec in self._session.get_outputs() if spec.name == "logits")
        return int(logits.shape[-1])

    def reset(self) -> None:
        """Forget the text so far."""
        self.length = 0
        """Tokens fed since the last reset, which is how many positions of the cache are in use."""
        self._cache = {spec.name: self._empty(spec) for spec in self._past}

    def append(self, tokens: NDArray[np.int64], *, keep: int = 1) -> NDArray[np.floating[Any]]:
        """Feed `tokens` int64[batch, S] (or [S]); the logits [batch, keep, vocabulary] of the last ones.

        Raises `BadInput` where the cache's capacity is too small for them.
        """
        import onnxruntime as ort

        tokens = np.atleast_2d(np.asarray(tokens, np.int64))
        total = self.length + tokens.shape[1]
        if self.capacity is not None and total > self.capacity:
            raise BadInput(f"{total} tokens do not fit in a cache of {self.capacity}")
        binding = self._session.io_binding()
        positions = np.arange(self.length, total, dtype=np.int64)
        small = {
            "input_ids": tokens,
            "attention_mask": np.ones((self._batch, total), np.int64),
            "position_ids": np.broadcast_to(positions, tokens.shape).copy(),
            _KEEP: np.asarray([keep], np.int64),
        }
        for name, array in small.items():
            if name in self._inputs:
                binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(array))
        binding.bind_output("logits", "cpu")
        for name, value in self._cache.items():
            binding.bind_ortvalue_input(name, value)
            if self.capacity is None:
                binding.bind_output(_present(name), "cpu")
            else:
                binding.bind_ortvalue_output(_present(name), value)
        self._session.run_with_iobinding(binding)
        logits, *present = binding.get_outputs()
        if self.capacity is None:
            self._cache = dict(zip(self._cache, present, strict=True))
        self.length = total
        return logits.numpy()[:, -keep:]  # type: ignore[no-any-return]

    def _empty(self, spec: Any) -> Any:
        import onnxruntime as ort

        heads, size = spec.shape[1], spec.shape[3]
        if not isinstance(heads, int) or not isinstance(size, int) or spec.type not in _DTYPES:
            raise BadInput(f"the size of the cache {spec.name!r}, {spec.type}{spec.shape}, is unknown")
        shape = (self._batch, heads, self.capacity or 0, size)
        return ort.OrtValue.ortvalue_from_numpy(np.zeros(shape, _DTYPES[spec.type]))


def _present(past: str) -> str:
    return past.replace(_PAST, _PRESENT, 1)
