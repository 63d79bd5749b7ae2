"""What onnxruntime-genai, which serves packages elsewhere, says of one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime_genai as genai

from graphopt.runtime import Tokenizer

__all__ = ["served"]


def served(folder: Path, prompt: str, count: int, **search: Any) -> str:
    """Its greedy answer of at most `count` tokens to `prompt`, by the folder's own settings but `search`."""
    model, tokenizer = genai.Model(str(folder)), Tokenizer(folder)
    tokens = tokenizer.opened(prompt)
    parameters = genai.GeneratorParams(model)
    parameters.set_search_options(**{"do_sample": False, "max_length": len(tokens) + count} | search)
    generator = genai.Generator(model, parameters)
    generator.append_tokens(np.asarray(tokens, np.int32))
    while not generator.is_done():
        generator.generate_next_token()
    return "".join(tokenizer.pieces().of(generator.get_sequence(0)[len(tokens) :].tolist()))
