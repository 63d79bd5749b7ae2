"""One GGUF file in llama.cpp in this process (see _measure.py); runs in the environment build/peers/llama."""

from __future__ import annotations

import argparse
import ctypes

import llama_cpp
import numpy as np
from _measure import Tokens, measure

Logits = np.ndarray


class Llama:
    """llama.cpp at its defaults, but for the threads and a batch that holds the prompt."""

    def __init__(self, args: argparse.Namespace) -> None:
        quiet()
        self._model = llama_cpp.llama_model_load_from_file(
            str(args.model).encode(), llama_cpp.llama_model_default_params()
        )
        options = llama_cpp.llama_context_default_params()
        options.n_ctx = args.batch * (args.prompt + args.new + 2)
        options.n_seq_max = args.batch
        options.n_batch = args.batch * args.prompt
        if args.threads:
            options.n_threads = options.n_threads_batch = args.threads
        self._context = llama_cpp.llama_init_from_model(self._model, options)
        self._vocabulary = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self._model))
        self._batch = llama_cpp.llama_batch_init(options.n_batch, 0, 1)

    def start(self, prompt: Tokens) -> Tokens:
        self.forget()
        return self._next(prompt)

    def step(self, tokens: Tokens) -> Tokens:
        return self._next(tokens[:, None])

    def _next(self, tokens: Tokens) -> Tokens:
        return self.logits(tokens)[:, -1].argmax(-1)

    def forget(self) -> None:
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self._context), False)
        self._length = 0

    def logits(self, tokens: Tokens, *, every: bool = False) -> Logits:
        """Read int64[batch, S] after what was read; logits [batch, 1, V] of the last, or of `every` one."""
        texts, length = tokens.shape
        batch, asked = self._batch, []
        batch.n_tokens = tokens.size
        for place, (text, at) in enumerate(np.ndindex(texts, length)):
            batch.token[place] = int(tokens[text, at])
            batch.pos[place] = self._length + at
            batch.n_seq_id[place] = 1
            batch.seq_id[place][0] = text
            batch.logits[place] = every or at == length - 1
            if batch.logits[place]:
                asked.append(place)
        status = llama_cpp.llama_decode(self._context, batch)
        if status:
            raise SystemExit(f"llama_decode returned {status}")
        self._length += length
        rows = [llama_cpp.llama_get_logits_ith(self._context, place) for place in asked]
        found = [np.ctypeslib.as_array(row, (self._vocabulary,)) for row in rows]
        return np.stack(found).reshape(texts, -1, self._vocabulary)


@llama_cpp.llama_log_callback
def _silent(level: int, text: bytes, data: ctypes.c_void_p) -> None:
    pass


def quiet() -> None:
    llama_cpp.llama_log_set(_silent, ctypes.c_void_p(0))


if __name__ == "__main__":
    measure(Llama, "llama-cpp-python")
