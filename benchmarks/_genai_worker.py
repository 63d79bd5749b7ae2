"""One onnxruntime-genai folder in this process: see _measure.py."""

from __future__ import annotations

import argparse
import json

import numpy as np
import onnxruntime_genai as og
from _measure import Tokens, measure


class Genai:
    """A Generator: its first `generate_next_token` only samples, each later one runs the model once."""

    def __init__(self, args: argparse.Namespace) -> None:
        config = og.Config(str(args.model))
        if args.threads:
            options = {"intra_op_num_threads": args.threads}
            config.overlay(json.dumps({"model": {"decoder": {"session_options": options}}}))
        self._model = og.Model(config)
        self._length = args.prompt + args.new + 1

    def start(self, prompt: Tokens) -> Tokens:
        parameters = og.GeneratorParams(self._model)
        parameters.set_search_options(
            do_sample=False, max_length=self._length, min_length=self._length, batch_size=len(prompt)
        )
        self._generator = og.Generator(self._model, parameters)
        self._generator.append_tokens(prompt.astype(np.int32))
        return self.step(prompt[:, -1])

    def step(self, tokens: Tokens) -> Tokens:
        self._generator.generate_next_token()
        return tokens


if __name__ == "__main__":
    measure(Genai, "onnxruntime", "onnxruntime-genai")
