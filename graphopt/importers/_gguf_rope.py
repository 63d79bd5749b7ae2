"""Scaled rotations in GGUF files, which transformers (5.23) passes over."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphopt.errors import BadInput

__all__ = ["ROPE_FACTORS", "scaled_rope"]

ROPE_FACTORS = ("rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight")
"""Tensors by which frequencies are divided: llama.cpp has factors where others have a rule."""

_LOW, _HIGH, _LENGTHS = 1.0, 4.0, (8192, 4096, 2048, 32768)
"""Llama 3.1's low_freq_factor and high_freq_factor, and what models of its kind were trained on before."""


def scaled_rope(factors: NDArray[np.float32], rope: dict[str, Any], where: str) -> dict[str, Any]:
    """`rope`, a configuration's `rope_parameters`, with the rule of Llama 3.1 that has these `factors`.

    Raises `BadInput` where there is none: the model would go wrong with growing length, and say nothing.
    """
    if np.all(factors == 1):
        return rope
    factor = float(factors.max())
    for length in _LENGTHS:
        rule = {
            "rope_type": "llama3",
            "factor": factor,
            "low_freq_factor": _LOW,
            "high_freq_factor": _HIGH,
            "original_max_position_embeddings": length,
        }
        if np.allclose(_factors(len(factors), float(rope["rope_theta"]), rule), factors, rtol=1e-5):
            return rope | rule
    raise BadInput(
        f"{where} scales its rotations by factors that follow no rule of Llama 3.1's, and are not read",
        hint="Start from the model's safetensors.",
    )


def _factors(count: int, theta: float, rule: dict[str, Any]) -> NDArray[np.float64]:
    """What llama3 scaling divides each of `count` frequencies by."""
    lengths = 2 * math.pi * theta ** (np.arange(count) / count)
    turns = rule["original_max_position_embeddings"] / lengths
    kept = np.clip(
        (turns - rule["low_freq_factor"]) / (rule["high_freq_factor"] - rule["low_freq_factor"]), 0, 1
    )
    return np.asarray(1 / ((1 - kept) / rule["factor"] + kept))
