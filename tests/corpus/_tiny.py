"""A tiny model of any type: its configuration class with small sizes, and seeded random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers

from tests._models import randomize
from tests.corpus._types import TASKS

# What sizes are called. Head size 16: the CPU's rotary kernel refuses what 16 does not divide.
_NAMES: dict[Any, str] = {
    64: "hidden_size d_model n_embd emb_dim dim embedding_size hidden_dim_size vision_hidden_size "
    "hidden_size_per_layer dim_model cross_attention_hidden_size word_embed_proj_dim emb_size "
    "hidden_size_global",
    128: "intermediate_size ffn_dim n_inner encoder_ffn_dim decoder_ffn_dim ffn_hidden_size d_inner "
    "hidden_dim dim_ff d_ff shared_intermediate_size mlp_intermediate_size max_position_embeddings "
    "n_positions n_ctx max_seq_len dense_intermediate_size shared_expert_intermediate_size "
    "intermediate_size_mlp max_seq_length expert_ffn_size",
    32: "moe_intermediate_size q_lora_rank expert_ffn_hidden_size expert_dim",
    2: "num_hidden_layers n_layer n_layers num_layers encoder_layers decoder_layers num_encoder_layers "
    "num_decoder_layers num_key_value_heads num_experts_per_tok moe_topk top_k moe_k moe_top_k "
    "num_experts_per_token type_vocab_size n_group topk_group experts_per_token num_kv_heads "
    "attention_num_key_value_heads",
    4: "num_attention_heads n_head n_heads num_heads encoder_attention_heads decoder_attention_heads "
    "num_encoder_attention_heads num_decoder_attention_heads attention_heads num_experts num_local_experts "
    "n_routed_experts moe_num_experts",
    16: "head_dim kv_lora_rank qk_nope_head_dim qk_rope_head_dim v_head_dim d_kv rotary_dim kv_channels "
    "attention_head_dim",
    256: "vocab_size n_words",
    8: "sliding_window attention_window_size",
    1: "n_shared_experts num_shared_experts moe_num_shared_experts first_k_dense_replace",
    0: "pad_token_id",
}
_SIZES = {name: size for size, names in _NAMES.items() for name in names.split()}
_TOKENS = {"bos_token_id": 1, "eos_token_id": 2, "mask_token_id": 3, "cls_token_id": 1, "sep_token_id": 2}

# What does not follow from names.
_BERT = {"model_type": "bert", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
_BERT |= {"num_attention_heads": 4, "vocab_size": 256, "max_position_embeddings": 128}
_T5GEMMA2 = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
_T5GEMMA2 |= {"num_key_value_heads": 2, "head_dim": 16, "vocab_size": 256, "sliding_window": 8}
_T5GEMMA2 |= {"max_position_embeddings": 128, "layer_types": ["sliding_attention", "full_attention"]}
_ROPE = {"rope_type": "default", "rope_theta": 1e4}
_EXCEPTIONS: dict[str, dict[str, Any]] = {
    "encoder-decoder": {"decoder": _BERT | {"is_decoder": True, "add_cross_attention": True}},
    "nemotron3_5_transcribe_word_timestamp": {"blank_token_id": 0},
    "t5gemma2_encoder": {
        "text_config": _T5GEMMA2,
        "vision_config": {
            "model_type": "siglip_vision_model",
            "num_hidden_layers": 1,
            "num_attention_heads": 4,
        }
        | {"hidden_size": 64, "intermediate_size": 128},
    },
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "window_size": 8},
    "cohere_compass_text": {"rope_parameters": {"full_attention": _ROPE, "sliding_attention": _ROPE}},
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "clip_qkv": 8.0, "rope_theta": 1e4},
        "ffn_config": {"ffn_hidden_size": 128, "moe_num_experts": 4, "moe_top_k": 2, "hidden_size": 64},
    },
    "deepseek_v2": {"num_experts_per_tok": 2},
    "bailing_hybrid": {"num_local_experts": 4, "n_group": 2, "topk_group": 1},
    "kimi_linear": {"n_group": 1, "topk_group": 1},
    "dots1": {"n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2},
    "gemma3n_text": {"num_hidden_layers": 3, "num_kv_shared_layers": 1, "laurel_rank": 8}
    | {"layer_types": ["sliding_attention", "full_attention", "full_attention"]}
    | {"hidden_size_per_layer_input": 16, "vocab_size_per_layer_input": 256, "intermediate_size": 128}
    | {"activation_sparsity_pattern": [0.0, 0.0, 0.0]},
    "gemma4_text": {"hidden_size_per_layer_input": 16, "vocab_size_per_layer_input": 256},
    "gemma4_unified_text": {"num_kv_shared_layers": 0},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"], "num_dense_layers": 1},
    "ministral": {"head_dim": 16},
    "hunyuan_v1_moe": {"head_dim": 16},
    "zamba": {"num_hidden_layers": 6, "attn_layer_period": 3, "attn_layer_offset": 2}
    | {"attention_head_dim": 32, "layer_types": None, "layers_block_type": None},
    "zamba2": {"num_hidden_layers": 4, "layer_types": None}
    | {"layers_block_type": ["linear_attention", "hybrid"] * 2},
    "xlstm": {"num_heads": 4, "chunk_size": 16, "qk_dim_factor": 1.0},
    "qwen4_exp_text": {"ple_layer_ids": [], "linear_num_key_heads": 2, "linear_num_value_heads": 4}
    | {"linear_key_head_dim": 16, "linear_value_head_dim": 16, "hc_lowrank": 16}
    | {"indexer_budget": 8, "indexer_compress_ratio": 2, "indexer_kv_heads": 1}
    | {"indexer_n_heads": 2, "indexer_head_dim": 16},
    "bamba": {"attn_layer_indices": [1], "mamba_n_heads": 8, "mamba_d_head": 16},
    "granitemoehybrid": {"layer_types": ["linear_attention", "full_attention"]}
    | {"mamba_n_heads": 8, "mamba_d_head": 16, "mamba_d_state": 8},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2, "mamba_d_state": 8},
    "hunyuan_v1_dense": {"head_dim": 16},
    "mamba2": {"head_dim": 16, "num_heads": 8, "expand": 2},
    "nemotron_h": {"mamba_num_heads": 8, "mamba_head_dim": 16},
    "recurrent_gemma": {"num_hidden_layers": 3, "block_types": ["recurrent", "recurrent", "attention"]},
    "reformer": {"axial_pos_embds_dim": [32, 32], "axial_pos_shape": [8, 16]},
    "blt": {"num_hidden_layers": 2},
    "mobilebert": {"embedding_size": 32, "intra_bottleneck_size": 64},
    "xmod": {"default_language": "en_XX"},
    "zaya": {"num_experts_per_tok": 1},
    "esmc": {"num_key_value_heads": 4},
    "dots3_note_text": {"num_key_value_heads": 4},
    "dots3_note_vision_encoder": {"adapter_in_dim": 64, "adapter_out_dim": 64, "head_dim": None},
    "dots3_note_audio_encoder": {"adapter_input_size": 64, "adapter_out_dim": 64, "head_dim": None},
    "luke": {"entity_vocab_size": 256, "entity_emb_size": 32},
    "perceiver": {"num_latents": 8, "d_latents": 64, "num_blocks": 1, "num_self_attends_per_block": 2}
    | {"num_self_attention_heads": 4, "num_cross_attention_heads": 4},
    "roc_bert": {"pronunciation_vocab_size": 32, "shape_vocab_size": 32}
    | {"pronunciation_embed_dim": 16, "shape_embed_dim": 16},
    "esm": {"pad_token_id": 0, "vocab_size": 256, "mask_token_id": 3, "position_embedding_type": "rotary"},
}
# Models that write nothing by themselves, and why.
_DRAFTS = "it drafts for another model: its forward needs that model's inputs_embeds and shared_kv_states"
_PARTS_OF_OTHERS = {"gemma4_assistant": _DRAFTS, "gemma4_unified_assistant": _DRAFTS}
# Positions of these types start behind the padding token.
_OFFSET = (
    "roberta roberta-prelayernorm camembert xlm-roberta xlm-roberta-xl xmod data2vec-text longformer luke "
    "ibert layoutlm mpnet esm"
)
_EXCEPTIONS |= {n: _EXCEPTIONS.get(n, {}) | {"max_position_embeddings": 130} for n in _OFFSET.split()}


def tiny_config(model_type: str, *, decoder: bool) -> Any:
    """The configuration of `model_type`, with small sizes; as a `decoder` where the type can be both."""
    if model_type in _PARTS_OF_OTHERS:
        raise ValueError(_PARTS_OF_OTHERS[model_type])
    cls = transformers.CONFIG_MAPPING[model_type]
    overrides: dict[str, Any] = {}
    for name, sub in (getattr(cls, "sub_configs", None) or {}).items():
        part = _sub_config(cls, name, sub)
        if part is not None:
            overrides[name] = part
    fields = _fields(cls, decoder=decoder) | overrides | _EXCEPTIONS.get(model_type, {})
    return cls(**{name: value for name, value in fields.items() if value is not None})


def _sub_config(cls: Any, name: str, sub: Any) -> dict[str, Any] | None:
    default = getattr(cls(), name, None)
    kind = type(default) if isinstance(default, transformers.PreTrainedConfig) else sub
    if not isinstance(kind, type) or not issubclass(kind, transformers.PreTrainedConfig):
        return None
    made = _fields(kind, decoder=False) | {"model_type": kind.model_type}
    return made | _EXCEPTIONS.get(kind.model_type, {})


def _fields(cls: Any, *, decoder: bool) -> dict[str, Any]:
    default = cls()
    given = default.to_dict()
    fields = {name: size for name, size in _SIZES.items() if isinstance(given.get(name), int | float)}
    if "num_key_value_heads" in given:
        fields["num_key_value_heads"] = 4 if "qk_rope_head_dim" in given else 2
    fields |= {name: token for name, token in _TOKENS.items() if given.get(name) is not None}
    if "pad_token_id" in given:
        fields["pad_token_id"] = 0
    layers = given.get("layer_types")
    if isinstance(layers, list) and layers:
        kinds = list(dict.fromkeys(layers))
        fields["layer_types"] = (kinds * 2)[: max(2, len(kinds))]
        count = next((n for n in ("num_hidden_layers", "n_layer", "num_layers") if n in given), None)
        if count:
            fields[count] = len(fields["layer_types"])
    for name in ("mlp_layer_types",):
        kinds = list(dict.fromkeys(given.get(name) or ()))
        if kinds:
            fields[name] = (kinds * 9)[: fields.get("num_hidden_layers", 2)]
    if decoder:
        fields |= {"is_decoder": True} if "is_decoder" in given or hasattr(default, "is_decoder") else {}
        if given.get("is_encoder_decoder"):
            fields["is_encoder_decoder"] = False
    return fields


def write_tiny(which: str, model_type: str, folder: Path) -> Any:
    """Write the tiny model as a checkpoint, and return it."""
    config = tiny_config(model_type, decoder=which == "causal")
    auto = getattr(transformers, TASKS[which].auto)
    torch.manual_seed(0)
    try:
        model = auto.from_config(config, dtype=torch.float32)
    except AttributeError as error:
        raise ValueError(f"{TASKS[which].auto} builds nothing of {type(config).__name__}: {error}") from error
    randomize(model)
    _save(model, config, folder)
    if type(transformers.AutoConfig.from_pretrained(folder)) not in auto._model_mapping:
        raise ValueError(f"{TASKS[which].auto} cannot load what it built: it saves {model.config.model_type}")
    # As transformers reads it: of Youtu's tied embedding it makes the padding's row zero.
    loaded = auto.from_pretrained(folder)
    _save(loaded, config, folder)
    return loaded


def _save(model: Any, config: Any, folder: Path) -> None:
    model.save_pretrained(folder)
    if type(model.config) is not type(config):
        # The text part of a larger model: its checkpoints have the configuration of the whole.
        config.architectures = model.config.architectures
        config.save_pretrained(folder)
