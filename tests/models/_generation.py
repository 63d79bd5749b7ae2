"""Greedy generation: by onnxruntime-genai, and by PyTorch without a cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime_genai as genai
import torch

from graphopt.export import load_torch_model


def generate(model: Any, prompts: np.ndarray, new_tokens: int) -> list[list[int]]:
    parameters = genai.GeneratorParams(model)
    parameters.set_search_options(
        batch_size=len(prompts), max_length=prompts.shape[1] + new_tokens, do_sample=False
    )
    generator = genai.Generator(model, parameters)
    generator.append_tokens(prompts.astype(np.int32))
    while not generator.is_done():
        generator.generate_next_token()
    return [list(generator.get_sequence(row))[prompts.shape[1] :] for row in range(len(prompts))]


def expected(source: Path, prompt: np.ndarray, new_tokens: int) -> list[int]:
    """PyTorch's greedy continuation, recomputed from scratch for every token."""
    network = load_torch_model(source, "AutoModelForCausalLM")
    ids = torch.from_numpy(prompt.astype(np.int64))[None]
    with torch.no_grad():
        for _ in range(new_tokens):
            ids = torch.cat([ids, network(input_ids=ids, use_cache=False).logits[:, -1:].argmax(-1)], dim=1)
    return ids[0, len(prompt) :].tolist()
