"""A checkpoint as GGUF files, quantized by llama.cpp; runs in the environment build/peers/llama.

    build/peers/llama/bin/python benchmarks/_gguf.py build/models/llama-3.2-1b OUT Q4_0 Q4_K_M
    build/peers/llama/bin/python benchmarks/_gguf.py --logits FILE.gguf SEQUENCES.npz LOGITS.npy

Llama and Qwen2 configurations. There is no tokenizer inside: token ids are fed and come out. The second form
runs int64 sequences and writes their logits, float32[all positions, vocabulary].
"""

from __future__ import annotations

import argparse
import ctypes
import json
import math
from pathlib import Path
from typing import Any

import gguf
import llama_cpp
import numpy as np
from _llama_worker import Llama, quiet

TYPES = {"Q4_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0, "Q4_K_M": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_K_M}
NAMES = {
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


def tensors(folder: Path) -> dict[str, np.ndarray]:
    """Bits of the bf16 tensors of a safetensors file, mapped, by name."""
    path = folder / "model.safetensors"
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
    data = np.memmap(path, np.uint8, "r", 8 + size)
    found = {}
    for name, about in header.items():
        if name != "__metadata__":
            assert about["dtype"] == "BF16", name
            start, end = about["data_offsets"]
            found[name] = data[start:end].view(np.uint16).reshape(about["shape"])
    return found


def write(folder: Path, out: Path) -> None:
    """The checkpoint in bf16, norms and biases in fp32, as llama.cpp's own converter writes them."""
    config = json.loads((folder / "config.json").read_text())
    kind = config["model_type"]
    writer = gguf.GGUFWriter(str(out), kind, use_temp_file=False)
    describe(writer, config)
    for name, bits in tensors(folder).items():
        if kind == "llama" and name.endswith(("q_proj.weight", "k_proj.weight")):
            heads = config["num_attention_heads" if "q_proj" in name else "num_key_value_heads"]
            bits = interleaved(bits, heads)
        if bits.ndim == 1:
            wide = (bits.astype(np.uint32) << 16).view(np.float32)
            writer.add_tensor(renamed(name), wide)
        else:
            raw = np.ascontiguousarray(bits).view(np.uint8)
            writer.add_tensor(renamed(name), raw, raw_dtype=gguf.GGMLQuantizationType.BF16)
    factors = rope_factors(config)
    if factors is not None:
        writer.add_tensor("rope_freqs.weight", factors)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def describe(writer: gguf.GGUFWriter, config: dict[str, Any]) -> None:
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)
    writer.add_tokenizer_model("no_vocab")


def renamed(name: str) -> str:
    if name == "model.embed_tokens.weight":
        return "token_embd.weight"
    if name == "model.norm.weight":
        return "output_norm.weight"
    _, _, layer, rest = name.split(".", 3)
    stem, _, kind = rest.rpartition(".")
    return f"blk.{layer}.{NAMES[stem]}.{kind}"


def interleaved(rows: np.ndarray, heads: int) -> np.ndarray:
    """Rows of each head with the halves that RoPE rotates together as neighbours: llama.cpp's order."""
    shape = rows.shape
    return rows.reshape(heads, 2, shape[0] // heads // 2, *shape[1:]).swapaxes(1, 2).reshape(shape)


def rope_factors(config: dict[str, Any]) -> np.ndarray | None:
    """What llama3 scaling divides each frequency by, float32[head_dim / 2]; None for plain RoPE."""
    rope = config["rope_parameters"]
    if rope["rope_type"] != "llama3":
        return None
    length = rope["original_max_position_embeddings"]
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    factors = []
    for exponent in np.arange(0, config["head_dim"], 2) / config["head_dim"]:
        turns = length / (2 * math.pi * rope["rope_theta"] ** exponent)
        kept = np.clip((turns - low) / (high - low), 0, 1)
        factors.append(1 / ((1 - kept) / rope["factor"] + kept))
    return np.asarray(factors, np.float32)


def quantize(source: Path, out: Path, kind: str) -> None:
    options = llama_cpp.llama_model_quantize_default_params()
    options.ftype = TYPES[kind]
    options.nthread = 2
    status = llama_cpp.llama_model_quantize(str(source).encode(), str(out).encode(), ctypes.byref(options))
    if status:
        raise SystemExit(f"llama_model_quantize returned {status}")


def logits(model: Path, sequences: Path, out: Path) -> None:
    found = []
    with np.load(sequences) as texts:
        arrays = [texts[name] for name in texts.files]
    longest = max(map(len, arrays))
    engine = Llama(argparse.Namespace(model=model, prompt=longest, new=0, batch=1, threads=2))
    for tokens in arrays:
        engine.forget()
        found.append(engine.logits(tokens[None], every=True)[0].copy())
    np.save(out, np.concatenate(found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--logits", action="store_true")
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("kinds", nargs="+")
    args = parser.parse_args()
    if args.logits:
        logits(args.source, args.out, Path(args.kinds[0]))
        return
    quiet()
    args.out.mkdir(parents=True, exist_ok=True)
    wide = args.out / "BF16.gguf"
    write(args.source, wide)
    for kind in args.kinds:
        quantize(wide, args.out / f"{kind}.gguf", kind)
    wide.unlink()


if __name__ == "__main__":
    main()
