"""A checkpoint as GGUF files, quantized by llama.cpp; runs in the environment build/peers/llama.

    build/peers/llama/bin/python benchmarks/_gguf.py build/models/llama-3.2-1b OUT Q4_0 Q4_K_M
    build/peers/llama/bin/python benchmarks/_gguf.py --logits FILE.gguf SEQUENCES.npz LOGITS.npy

Llama, Qwen2 and Qwen3 configurations. There is no tokenizer inside: token ids are fed and come out. With
`--importance FILE.npz` llama.cpp rounds by that (see _importance.py). OUT/bytes.json says how many bytes the
tensors of each file have. The second form runs int64 sequences and writes their logits, float32[all
positions, vocabulary].
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

TYPES = {
    name.rpartition("MOSTLY_")[2]: value
    for name, value in vars(llama_cpp).items()
    if name.startswith("LLAMA_FTYPE_MOSTLY_")
} | {"F32": llama_cpp.LLAMA_FTYPE_ALL_F32}
OUTSIDE = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def tensors(folder: Path) -> dict[str, np.ndarray]:
    """Bits of the bf16 tensors of a checkpoint's safetensors files, mapped, by name."""
    found = {}
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(size))
        data = np.memmap(path, np.uint8, "r", 8 + size)
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
    writer.add_key_length(head_size(config))
    writer.add_value_length(head_size(config))
    writer.add_rope_dimension_count(head_size(config))
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)
    writer.add_tokenizer_model("no_vocab")


def head_size(config: dict[str, Any]) -> int:
    return config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]


def renamed(name: str) -> str:
    if name in OUTSIDE:
        return OUTSIDE[name]
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
    for exponent in np.arange(0, head_size(config), 2) / head_size(config):
        turns = length / (2 * math.pi * rope["rope_theta"] ** exponent)
        kept = np.clip((turns - low) / (high - low), 0, 1)
        factors.append(1 / ((1 - kept) / rope["factor"] + kept))
    return np.asarray(factors, np.float32)


def importance_of(file: Path) -> Any:
    """Mean squares float32[inputs] of the weights of a checkpoint, by name, as llama.cpp takes them."""
    with np.load(file) as found:
        arrays = {renamed(name).encode(): np.ascontiguousarray(found[name], np.float32) for name in found}
    kind = llama_cpp.llama_model_imatrix_data
    pointer = ctypes.POINTER(ctypes.c_float)
    rows = [kind(name, array.ctypes.data_as(pointer), array.size) for name, array in arrays.items()]
    ended = (kind * (len(rows) + 1))(*rows, kind(None, None, 0))
    ended.arrays = arrays  # which the pointers are into
    return ended


def quantize(source: Path, out: Path, kind: str, importance: Any = None) -> None:
    options = llama_cpp.llama_model_quantize_default_params()
    options.ftype = TYPES[kind]
    options.nthread = 2
    if importance is not None:
        options.imatrix = importance
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
    parser.add_argument("--importance", type=Path, metavar="FILE.npz")
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("kinds", nargs="+")
    args = parser.parse_args()
    if args.logits:
        logits(args.source, args.out, Path(args.kinds[0]))
        return
    quiet()
    args.out.mkdir(parents=True, exist_ok=True)
    wide = args.out / "wide.gguf"
    write(args.source, wide)
    importance = importance_of(args.importance) if args.importance else None
    sizes = {}
    for kind in args.kinds:
        made = args.out / f"{kind}.gguf"
        quantize(wide, made, kind, importance)
        sizes[kind] = sum(int(tensor.n_bytes) for tensor in gguf.GGUFReader(made).tensors)
    wide.unlink()
    (args.out / "bytes.json").write_text(json.dumps(sizes))


if __name__ == "__main__":
    main()
