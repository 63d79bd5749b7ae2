"""Checkpoints with random weights, of what transformers' own configuration classes describe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

_WHISPER = "WhisperForConditionalGeneration"
SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "whisper-64": (
        _WHISPER,
        {
            "d_model": 64,
            "encoder_layers": 2,
            "decoder_layers": 2,
            "encoder_attention_heads": 4,
            "decoder_attention_heads": 4,
            "encoder_ffn_dim": 256,
            "decoder_ffn_dim": 256,
        },
    ),
    "whisper-small": (
        _WHISPER,
        {
            "d_model": 768,
            "encoder_layers": 12,
            "decoder_layers": 12,
            "encoder_attention_heads": 12,
            "decoder_attention_heads": 12,
            "encoder_ffn_dim": 3072,
            "decoder_ffn_dim": 3072,
        },
    ),
}
"""The class, and what differs from its configuration's defaults: those of Whisper have 51,865 tokens, 80 mel
bins and 30 seconds."""


def write(folder: Path, shape: str) -> None:
    """The checkpoint, float32, from seed 0."""
    import torch
    import transformers

    name, options = SHAPES[shape]
    model = getattr(transformers, name)
    torch.manual_seed(0)
    model(model.config_class(**options)).save_pretrained(folder)
