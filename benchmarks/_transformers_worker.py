"""What _transformers_export.py wrote, by transformers' own onnxruntime runner: see _measure.py."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import torch
from _measure import Tokens, measure
from transformers import DynamicCache
from transformers.exporters import ExportedModel

from graphopt.runtime import session_options


class Exported:
    def __init__(self, args: argparse.Namespace) -> None:
        torch.set_num_threads(args.threads or torch.get_num_threads())
        options = session_options(threads=args.threads or None)
        self._model = ExportedModel.from_pretrained(args.model, session_options=options)
        self._run = self._model.runners["decode"]

    def start(self, prompt: Tokens) -> Tokens:
        self.forget(len(prompt))
        return self._next(prompt)

    def step(self, tokens: Tokens) -> Tokens:
        return self._next(tokens[:, None])

    def forget(self, batch: int) -> None:
        config = self._model.config
        shape = (batch, config.num_key_value_heads, 0, config.head_dim)
        self._cache = DynamicCache(config=config)
        for layer in range(config.num_hidden_layers):
            self._cache.update(torch.zeros(shape), torch.zeros(shape), layer)

    def _next(self, tokens: Tokens) -> Tokens:
        return self.logits(tokens)[:, -1].argmax(-1)

    def logits(self, tokens: Tokens) -> np.ndarray[Any, Any]:
        """Read int64[batch, S] after what was read; its logits [batch, S, V]."""
        past = self._cache.get_seq_length()
        total = past + tokens.shape[1]
        feeds = {
            "input_ids": torch.from_numpy(tokens),
            "attention_mask": torch.ones(len(tokens), total, dtype=torch.int64),
            "position_ids": torch.arange(past, total).expand(len(tokens), -1),
            "past_key_values": self._cache,
        }
        found = self._run(**{k: v for k, v in feeds.items() if k in self._run.metadata.kwargs})
        self._cache = found.past_key_values
        logits: np.ndarray[Any, Any] = found.logits.numpy()
        return logits


if __name__ == "__main__":
    measure(Exported, "onnxruntime", "torch", "transformers")
