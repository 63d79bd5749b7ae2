"""Small GGUF files of a Llama, written with the package `gguf`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import gguf
import numpy as np
import torch
from gguf.quants import quantize
from transformers import LlamaConfig, LlamaForCausalLM

from graphopt.plugins import registry

__all__ = ["HIDDEN", "llama", "write_llama"]

HIDDEN, INNER, LAYERS, HEADS, KV_HEADS = 256, 512, 2, 4, 2
_NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def llama() -> LlamaForCausalLM:
    """Two layers with random weights."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=4096,
        hidden_size=HIDDEN,
        intermediate_size=INNER,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS,
        max_position_embeddings=128,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config).eval()


def write_llama(
    path: Path, kinds: Mapping[str, str], default: str = "Q8_0", factors: np.ndarray | None = None
) -> Path:
    """The model at `path`; `kinds` are types by a part of the tensors' names. K-quants get random bytes.

    `factors` are those of RoPE's frequencies.
    """
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_context_length(128)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(HIDDEN // HEADS)
    writer.add_vocab_size(4096)
    _write_vocabulary(writer)
    for name, value in llama().state_dict().items():
        if name != "lm_head.weight":
            kind = next((kinds[part] for part in kinds if part in name), default)
            _write_tensor(writer, name, value.numpy(), kind)
    if factors is not None:
        writer.add_tensor("rope_freqs.weight", factors.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _write_vocabulary(writer: gguf.GGUFWriter) -> None:
    folder = registry.embedded_models()["tiny-coder"]
    said = json.loads((folder / "tokenizer.json").read_text())["model"]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(sorted(said["vocab"], key=said["vocab"].__getitem__))
    writer.add_token_types([gguf.TokenType.CONTROL, *[gguf.TokenType.NORMAL] * (len(said["vocab"]) - 1)])
    writer.add_token_merges(
        [merge if isinstance(merge, str) else " ".join(merge) for merge in said["merges"]]
    )
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)


def _write_tensor(writer: gguf.GGUFWriter, name: str, rows: np.ndarray, kind: str) -> None:
    for part, heads in (("q_proj", HEADS), ("k_proj", KV_HEADS)):
        if part in name:  # rows that RoPE rotates together as neighbours
            rows = rows.reshape(heads, 2, -1, rows.shape[1]).swapaxes(1, 2).reshape(rows.shape)
    type_ = gguf.GGMLQuantizationType["F32" if rows.ndim == 1 else kind]
    if kind.endswith("_K") and rows.ndim == 2:
        raw = _random_blocks(kind, rows.shape)
    elif type_.name == "F32":
        raw = np.ascontiguousarray(rows)
    else:
        raw = quantize(np.ascontiguousarray(rows), type_)
    writer.add_tensor(_renamed(name), raw, raw_dtype=type_)


def _random_blocks(kind: str, shape: tuple[int, ...]) -> np.ndarray:
    """Blocks whose factors, small float16, are last in K-quants of 3 and 6 bits, and first in those of 4."""
    elements, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]]
    rng = np.random.default_rng(len(kind) + shape[0])
    blocks = rng.integers(0, 256, (shape[0] * shape[1] // elements, size), np.uint8)
    small = (1e-4 * rng.standard_normal((len(blocks), 2))).astype(np.float16).view(np.uint8)
    if kind == "Q4_K":
        blocks[:, :4] = small
    else:
        blocks[:, -2:] = small[:, :2]
    return blocks.reshape(shape[0], -1)


def _renamed(name: str) -> str:
    if name == "model.embed_tokens.weight":
        return "token_embd.weight"
    if name == "model.norm.weight":
        return "output_norm.weight"
    _, _, layer, rest = name.split(".", 3)
    stem, _, part = rest.rpartition(".")
    return f"blk.{layer}.{_NAMES[stem]}.{part}"
