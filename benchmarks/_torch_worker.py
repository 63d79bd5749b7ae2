"""A checkpoint in PyTorch, eager, bf16, in this process: see _measure.py."""

from __future__ import annotations

import argparse

import torch
from _measure import Tokens, measure
from transformers import AutoModelForCausalLM, DynamicCache


class Eager:
    def __init__(self, args: argparse.Namespace) -> None:
        if args.threads:
            torch.set_num_threads(args.threads)
        self._model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.bfloat16).eval()

    def start(self, prompt: Tokens) -> Tokens:
        self._cache = DynamicCache(config=self._model.config)
        return self._next(prompt)

    def step(self, tokens: Tokens) -> Tokens:
        return self._next(tokens[:, None])

    @torch.inference_mode()
    def _next(self, tokens: Tokens) -> Tokens:
        found = self._model(torch.from_numpy(tokens), past_key_values=self._cache, logits_to_keep=1)
        return found.logits[:, -1].argmax(-1).numpy()


if __name__ == "__main__":
    measure(Eager, "torch", "transformers")
