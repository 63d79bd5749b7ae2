"""The families that every release lowers in full: how a tiny model of each is made.

Heads of 32 where only a part is rotated, so that the part is what the kernel takes, as in the real models.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers

from tests._models import randomize
from tests.corpus._tiny import tiny_config, write_tiny
from tests.corpus._types import TASKS


class Family(NamedTuple):
    """A key of `_types.TASKS` or `_OTHER_TASKS`; a model type; what its tiny configuration has besides."""

    which: str
    model_type: str
    extra: dict[str, Any]


_OTHER_TASKS = {
    "speech": ("automatic-speech-recognition", "AutoModelForSpeechSeq2Seq"),
    "image": ("image-classification", "AutoModelForImageClassification"),
    "image-text": ("zero-shot-image-classification", "AutoModelForZeroShotImageClassification"),
}
_WIDE = {"hidden_size": 128, "head_dim": 32}
_LLAMA3 = {"rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "low_freq_factor": 1.0}
_LLAMA3 |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 64}
_HALF = {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}
_LONG = {"rope_type": "longrope", "rope_theta": 1e4, "partial_rotary_factor": 0.5}
_LONG |= {"short_factor": [1.0 + 0.1 * i for i in range(8)], "long_factor": [2.0 + 0.3 * i for i in range(8)]}
_LONG |= {"original_max_position_embeddings": 16}
_IMAGE = {"image_size": 32, "patch_size": 8, "num_labels": 5}
_VIT = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
_CONVNEXT = {"hidden_sizes": [16, 32], "depths": [2, 2], "num_stages": 2, "patch_size": 4}
_SWIN = {"embed_dim": 16, "depths": [2, 2], "num_heads": [2, 4], "window_size": 4, "patch_size": 4}
_TEXT = {**_VIT, "vocab_size": 256, "max_position_embeddings": 32, "pad_token_id": 0, "eos_token_id": 2}
_WHISPER = {"vocab_size": 256, "d_model": 64, "encoder_layers": 2, "decoder_layers": 2, "num_mel_bins": 8}
_WHISPER |= {"encoder_ffn_dim": 128, "decoder_ffn_dim": 128, "max_source_positions": 20}
_WHISPER |= {"encoder_attention_heads": 4, "decoder_attention_heads": 4, "max_target_positions": 64}
_WHISPER |= {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
_WHISPER |= {"suppress_tokens": None, "begin_suppress_tokens": None}
_LINEAR = {"layer_types": ["linear_attention", "full_attention"]}
_LINEAR |= {"linear_num_key_heads": 2, "linear_num_value_heads": 4}
_LINEAR |= {"linear_key_head_dim": 8, "linear_value_head_dim": 16}
_LINEAR |= {"head_dim": 64, "num_attention_heads": 2, "num_key_value_heads": 1}
_SSM = {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_ssm": 64, "mamba_d_state": 8, "mamba_n_groups": 2}
_CLIP = {"text_config": _TEXT, "vision_config": _VIT | _IMAGE, "projection_dim": 32}


def _causal(model_type: str, **extra: Any) -> Family:
    return Family("causal", model_type, extra)


FAMILIES: dict[str, Family] = {
    "llama": _causal("llama"),
    "llama3": _causal("llama", rope_parameters=_LLAMA3),
    "mistral": _causal("mistral"),
    "qwen2": _causal("qwen2"),
    "qwen3": _causal("qwen3"),
    "gemma": _causal("gemma"),
    "gemma2": _causal("gemma2"),
    "gemma3": _causal("gemma3_text"),
    "phi": _causal("phi", **_WIDE),
    "phi3": _causal("phi3"),
    "phi4": _causal("phi3", **_WIDE, rope_parameters=_LONG, original_max_position_embeddings=16),
    "smollm3": _causal("smollm3"),
    "olmo2": _causal("olmo2"),
    "granite": _causal("granite"),
    "starcoder2": _causal("starcoder2"),
    "gpt2": _causal("gpt2"),
    "gpt_neox": _causal("gpt_neox", hidden_size=128, rope_parameters=_HALF),
    "gptj": _causal("gptj"),
    "codegen": _causal("codegen"),
    "falcon": _causal("falcon"),
    "falcon-new": _causal("falcon", new_decoder_architecture=True, num_kv_heads=2),
    "cohere": _causal("cohere"),
    "cohere2": _causal("cohere2"),
    "glm": _causal("glm", **_WIDE),
    "glm4": _causal("glm4", **_WIDE),
    "mixtral": _causal("mixtral"),
    "qwen2_moe": _causal("qwen2_moe"),
    "qwen3_moe": _causal("qwen3_moe"),
    "olmoe": _causal("olmoe"),
    "gpt_oss": _causal("gpt_oss"),
    "opt": _causal("opt"),
    "bloom": _causal("bloom"),
    "deepseek_v3": _causal("deepseek_v3"),
    "qwen3_next": _causal("qwen3_next", **_LINEAR),
    "qwen3_5": _causal("qwen3_5_text", **_LINEAR),
    "falcon_h1": _causal("falcon_h1", **_SSM),
    "lfm2": _causal("lfm2"),
    "bert": Family("masked", "bert", {}),
    "roberta": Family("masked", "roberta", {}),
    "distilbert": Family("masked", "distilbert", {}),
    "modernbert": Family("masked", "modernbert", {}),
    "deberta-v2": Family("masked", "deberta-v2", {}),
    "t5": Family("seq2seq", "t5", {}),
    "bart": Family("seq2seq", "bart", {}),
    "whisper": Family("speech", "whisper", _WHISPER),
    "vit": Family("image", "vit", _VIT | _IMAGE),
    "convnext": Family("image", "convnext", _IMAGE | _CONVNEXT),
    "swin": Family("image", "swin", _IMAGE | _SWIN),
    "clip": Family("image-text", "clip", _CLIP),
}


def task_of(family: Family) -> str:
    """What graphopt calls the task of these models."""
    return (
        _OTHER_TASKS[family.which][0] if family.which in _OTHER_TASKS else TASKS[family.which].task or "auto"
    )


def roles_of(family: Family) -> tuple[str, ...]:
    """The graphs that graphopt makes of such a model."""
    return ("encoder", "decoder") if family.which in ("seq2seq", "speech") else ("model",)


def write_family(name: str, folder: Path) -> None:
    """Write the tiny model of a family as a checkpoint."""
    which, model_type, extra = FAMILIES[name]
    if not extra:
        write_tiny(which, model_type, folder)
        return
    if which in _OTHER_TASKS:
        config = transformers.AutoConfig.for_model(model_type, **extra)
        auto = getattr(transformers, _OTHER_TASKS[which][1])
    else:
        plain = tiny_config(model_type, decoder=which == "causal").to_dict()
        config = transformers.AutoConfig.for_model(**{**plain, **extra, "model_type": model_type})
        auto = getattr(transformers, TASKS[which].auto)
    torch.manual_seed(0)
    model = auto.from_config(config, dtype=torch.float32)
    randomize(model)
    model.eval().save_pretrained(folder)
