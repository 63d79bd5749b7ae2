"""Tiny models of many families, built from their configuration classes with seeded random weights."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers

from tests._cache import ROOT

# Head size 16: the CPU's rotary kernel refuses what 16 does not divide.
_SIZES: dict[str, Any] = {
    "vocab_size": 4096,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
}
_DECODER = _SIZES | {
    "num_key_value_heads": 2,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 0,
    "tie_word_embeddings": True,
}
_ENCODER = _SIZES | {"pad_token_id": 0, "type_vocab_size": 2}
_IMAGE = {k: v for k, v in _SIZES.items() if k not in ("vocab_size", "max_position_embeddings")}
_IMAGE |= {"image_size": 32, "patch_size": 8}


_LONG_ROPE = {
    "rope_type": "longrope",
    "rope_theta": 1e4,
    "original_max_position_embeddings": 16,
    "short_factor": [1.0 + 0.1 * i for i in range(8)],
    "long_factor": [2.0 + 0.3 * i for i in range(8)],
}


class Kind(NamedTuple):
    """A model type as transformers names it, the Auto class for its task, and a tiny configuration."""

    model_type: str
    auto: str
    config: dict[str, Any]


KINDS: dict[str, Kind] = {
    "llama": Kind("llama", "AutoModelForCausalLM", _DECODER),
    "mistral": Kind("mistral", "AutoModelForCausalLM", _DECODER | {"sliding_window": 8}),
    "qwen2": Kind("qwen2", "AutoModelForCausalLM", _DECODER),
    "qwen3": Kind("qwen3", "AutoModelForCausalLM", _DECODER | {"head_dim": 16}),
    "gemma2": Kind(
        "gemma2",
        "AutoModelForCausalLM",
        _DECODER | {"head_dim": 16, "query_pre_attn_scalar": 16, "sliding_window": 8},
    ),
    "phi3": Kind("phi3", "AutoModelForCausalLM", _DECODER),
    "phi3-long": Kind("phi3", "AutoModelForCausalLM", _DECODER | {"rope_parameters": _LONG_ROPE}),
    "gpt2": Kind(
        "gpt2",
        "AutoModelForCausalLM",
        {"vocab_size": 4096, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 128, "n_inner": 128}
        | {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0},
    ),
    "bert": Kind("bert", "AutoModel", _ENCODER),
    "bert-mlm": Kind("bert", "AutoModelForMaskedLM", _ENCODER),
    "bert-sequence": Kind("bert", "AutoModelForSequenceClassification", _ENCODER),
    "bert-token": Kind("bert", "AutoModelForTokenClassification", _ENCODER),
    "bert-qa": Kind("bert", "AutoModelForQuestionAnswering", _ENCODER),
    "roberta": Kind("roberta", "AutoModel", _ENCODER | {"max_position_embeddings": 130}),
    "distilbert": Kind(
        "distilbert",
        "AutoModel",
        {"vocab_size": 4096, "dim": 64, "hidden_dim": 128, "n_layers": 2, "n_heads": 4}
        | {"max_position_embeddings": 128, "pad_token_id": 0},
    ),
    "vit": Kind(
        "vit",
        "AutoModelForImageClassification",
        _IMAGE | {"num_labels": 5},
    ),
    "clip-vision": Kind("clip_vision_model", "AutoModel", _IMAGE),
    "clip": Kind(
        "clip",
        "AutoModelForZeroShotImageClassification",
        {"text_config": _SIZES | {"pad_token_id": 0, "eos_token_id": 3}, "vision_config": _IMAGE}
        | {"projection_dim": 32},
    ),
}

# Decoders that plans are made for from their sizes alone, beside those above.
PLANNED: dict[str, Kind] = {
    "gemma": Kind("gemma", "AutoModelForCausalLM", _DECODER | {"head_dim": 16}),
    "gemma3": Kind(
        "gemma3_text",
        "AutoModelForCausalLM",
        _DECODER
        | {"head_dim": 16, "query_pre_attn_scalar": 16, "sliding_window": 8, "num_hidden_layers": 3}
        | {"layer_types": ["sliding_attention", "full_attention", "sliding_attention"]},
    ),
    "mixtral": Kind(
        "mixtral", "AutoModelForCausalLM", _DECODER | {"num_local_experts": 4, "num_experts_per_tok": 2}
    ),
    # As many experts as it takes for what chooses among them to be rounded, too; one layer has none.
    "qwen3_moe": Kind(
        "qwen3_moe",
        "AutoModelForCausalLM",
        _DECODER
        | {"head_dim": 16, "num_experts": 64, "num_experts_per_tok": 4, "moe_intermediate_size": 32}
        | {"num_hidden_layers": 3, "mlp_only_layers": [1]},
    ),
}

# Decoders whose layers carry another state than keys and values, or one beside them.
_SSM = {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_ssm": 64, "mamba_d_state": 8, "mamba_n_groups": 2}
STATEFUL: dict[str, Kind] = {
    "lfm2": Kind("lfm2", "AutoModelForCausalLM", _DECODER | {"layer_types": ["conv", "full_attention"]}),
    "qwen3_5": Kind(
        "qwen3_5_text",
        "AutoModelForCausalLM",
        _DECODER
        | {"layer_types": ["linear_attention", "full_attention"], "head_dim": 16}
        | {"linear_num_key_heads": 2, "linear_num_value_heads": 4}
        | {"linear_key_head_dim": 8, "linear_value_head_dim": 16},
    ),
    "falcon_h1": Kind("falcon_h1", "AutoModelForCausalLM", _DECODER | _SSM | {"num_hidden_layers": 1}),
    "mamba": Kind(
        "mamba",
        "AutoModelForCausalLM",
        {"vocab_size": 4096, "hidden_size": 32, "state_size": 4, "num_hidden_layers": 2, "time_step_rank": 2}
        | {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0},
    ),
    "deepseek_v32": Kind(
        "deepseek_v32",
        "AutoModelForCausalLM",
        _DECODER
        | {"num_hidden_layers": 1, "num_key_value_heads": 4, "mlp_layer_types": ["dense"]}
        | {"q_lora_rank": 32, "kv_lora_rank": 16, "head_dim": 16, "qk_rope_head_dim": 16}
        | {"qk_nope_head_dim": 16, "v_head_dim": 16}
        | {"index_topk": 6, "index_head_dim": 32, "index_n_heads": 2},
    ),
}


_PAIR = {"vocab_size": 4096, "pad_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 1}
_LAYERS = {"encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 128, "decoder_ffn_dim": 128}
_BART = (
    _PAIR
    | _LAYERS
    | {"d_model": 64, "encoder_attention_heads": 4, "decoder_attention_heads": 4, "bos_token_id": 1}
)
# Encoder and decoder, each a graph of its own.
SEQ2SEQ: dict[str, Kind] = {
    "t5": Kind(
        "t5",
        "AutoModelForSeq2SeqLM",
        _PAIR
        | {"d_model": 64, "d_kv": 16, "d_ff": 128, "num_heads": 4, "num_layers": 2, "num_decoder_layers": 2},
    ),
    "bart": Kind("bart", "AutoModelForSeq2SeqLM", _BART | {"max_position_embeddings": 128}),
    "whisper": Kind(
        "whisper",
        "AutoModelForSpeechSeq2Seq",
        _BART
        | {"num_mel_bins": 8, "max_source_positions": 20, "max_target_positions": 64}
        | {"suppress_tokens": None, "begin_suppress_tokens": None},
    ),
}

_BACKBONE = {"model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]}
_BACKBONE |= {"layer_type": "basic", "out_features": ["stage2"]}
_RT_BACKBONE = {"model_type": "rt_detr_resnet", "embedding_size": 16, "hidden_sizes": [16, 32, 48, 64]}
_RT_BACKBONE |= {"depths": [1] * 4, "out_features": ["stage2", "stage3", "stage4"]}
_WAVE = {k: v for k, v in _SIZES.items() if k != "max_position_embeddings"} | {"vocab_size": 32}
_WAVE |= {"conv_dim": [16] * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4}
# What gives boxes, classes of pixels, depths, letters of speech, classes of pairs of texts.
HEADS: dict[str, Kind] = {
    "yolos": Kind(
        "yolos",
        "AutoModelForObjectDetection",
        _IMAGE | {"image_size": [32, 48], "num_detection_tokens": 10, "num_labels": 5},
    ),
    "detr": Kind(
        "detr",
        "AutoModelForObjectDetection",
        _LAYERS
        | {"use_timm_backbone": False, "backbone_config": _BACKBONE, "d_model": 32, "num_labels": 5}
        | {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "num_queries": 10},
    ),
    "rt-detr": Kind(
        "rt_detr",
        "AutoModelForObjectDetection",
        {"backbone_config": _BACKBONE | _RT_BACKBONE}
        | {"d_model": 32, "encoder_hidden_dim": 32, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64}
        | {"encoder_in_channels": [32, 48, 64], "decoder_in_channels": [32] * 3, "decoder_layers": 2}
        | {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "decoder_n_points": 2}
        | {"num_queries": 12, "num_labels": 5, "num_denoising": 0, "anchor_image_size": [64, 96]},
    ),
    "segformer": Kind(
        "segformer",
        "AutoModelForSemanticSegmentation",
        {"hidden_sizes": [8, 16, 24, 32], "depths": [1] * 4, "num_attention_heads": [1, 1, 2, 2]}
        | {"decoder_hidden_size": 16, "num_labels": 4},
    ),
    "dpt": Kind(
        "dpt",
        "AutoModelForDepthEstimation",
        _IMAGE
        | {"num_hidden_layers": 4, "backbone_out_indices": [0, 1, 2, 3], "add_projection": False}
        | {"neck_hidden_sizes": [8, 16, 24, 32], "fusion_hidden_size": 16},
    ),
    "wav2vec2": Kind("wav2vec2", "AutoModelForCTC", _WAVE),
    "hubert-masked": Kind(
        "hubert", "AutoModelForCTC", _WAVE | {"feat_extract_norm": "layer", "do_stable_layer_norm": True}
    ),
    "bart-pair": Kind("bart", "AutoModelForSequenceClassification", _BART | {"max_position_embeddings": 64}),
}


def write_model(
    kind: str, folder: Path, *, dtype: str = "float32", shard: str = "5GB", **config: Any
) -> None:
    """Write `config.json`, safetensors of at most `shard` each, and for text the tokenizer of tiny-coder."""
    model_type, auto, defaults = (KINDS | PLANNED | SEQ2SEQ | STATEFUL | HEADS)[kind]
    made = transformers.AutoConfig.for_model(model_type, **(defaults | config))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = getattr(transformers, auto).from_config(made, dtype=torch.float32)
        randomize(model)
    model.to(getattr(torch, dtype)).save_pretrained(folder, max_shard_size=shard)
    if "vocab_size" in defaults:
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(ROOT / "models" / "tiny_coder" / name, folder / name)


def randomize(model: torch.nn.Module) -> None:
    """Leave no parameter at a value that would hide a mistake: norms are not one, biases are not zero."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim < 2:
                parameter.add_(torch.randn_like(parameter), alpha=0.2)
            else:
                parameter.normal_(std=parameter[0].numel() ** -0.5)
