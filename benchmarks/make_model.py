"""Write a checkpoint of a published shape with random bf16 weights, where only the shape matters.

    python benchmarks/make_model.py build/models/llama-3.2-1b          # 1.24 B parameters, 2.5 GB
    python benchmarks/make_model.py build/models/small --shape qwen2.5-0.5b

The configuration is the published one. Weights are normal with the initializer's standard deviation, seeded;
norms are ones, biases zeros. More than five gigabytes are in several files, with an index. The tokenizer is
the embedded model's (its 4096 entries are the first of the vocabulary), so that text tools run; its end token
is the configuration's.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from graphopt.cost import SHAPES as PUBLISHED

STANDARD_DEVIATION = 0.02
SHARD = 5 * 10**9
"""Bytes of a file, as transformers' default has it when these shapes were published."""
TOKENIZER = Path(__file__).parent.parent / "models" / "tiny_coder"

SHAPES: dict[str, dict[str, Any]] = {name: dict(config) for name, config in PUBLISHED.items()}
_COMMON = {
    "dtype": "bfloat16",
    "hidden_act": "silu",
    "tie_word_embeddings": True,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 0,
    "initializer_range": STANDARD_DEVIATION,
}


def shapes(config: dict[str, Any]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Tensor names and shapes, in the checkpoint's order."""
    hidden, ffn, head = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    queries, keys = config["num_attention_heads"] * head, config["num_key_value_heads"] * head
    yield "model.embed_tokens.weight", (config["vocab_size"], hidden)
    for i in range(config["num_hidden_layers"]):
        layer = f"model.layers.{i}"
        yield f"{layer}.input_layernorm.weight", (hidden,)
        for name, width in (("q", queries), ("k", keys), ("v", keys)):
            yield f"{layer}.self_attn.{name}_proj.weight", (width, hidden)
            if config["model_type"] == "qwen2":
                yield f"{layer}.self_attn.{name}_proj.bias", (width,)
        yield f"{layer}.self_attn.o_proj.weight", (hidden, queries)
        yield f"{layer}.post_attention_layernorm.weight", (hidden,)
        yield f"{layer}.mlp.gate_proj.weight", (ffn, hidden)
        yield f"{layer}.mlp.up_proj.weight", (ffn, hidden)
        yield f"{layer}.mlp.down_proj.weight", (hidden, ffn)
    yield "model.norm.weight", (hidden,)
    if not config["tie_word_embeddings"]:
        yield "lm_head.weight", (config["vocab_size"], hidden)


def pieces(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> Iterator[bytes]:
    """The tensor's bytes (bf16, little-endian), a few megabytes at a time."""
    if len(shape) == 1:
        yield np.full(shape, 0 if name.endswith(".bias") else 0x3F80, np.uint16).tobytes()
        return
    rows = max(1, (1 << 21) // shape[1])
    for start in range(0, shape[0], rows):
        block = rng.standard_normal((min(rows, shape[0] - start), shape[1]), np.float32)
        block *= np.float32(STANDARD_DEVIATION)
        yield (block.view(np.uint32) >> 16).astype(np.uint16).tobytes()


def write(folder: Path, shape: str, seed: int = 0, shard: int = SHARD) -> None:
    """The checkpoint; its config.json comes last, so that a folder which has one is whole."""
    config = _COMMON | SHAPES[shape]
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(TOKENIZER / name, folder / name)
    rng = np.random.default_rng(seed)
    files = sharded(list(shapes(config)), shard)
    names = ["model.safetensors"]
    if len(files) > 1:
        names = [f"model-{i + 1:05}-of-{len(files):05}.safetensors" for i in range(len(files))]
    total = sum(write_file(folder / name, dims, rng) for name, dims in zip(names, files, strict=True))
    if len(files) > 1:
        of = {tensor: name for name, dims in zip(names, files, strict=True) for tensor in dims}
        index = {"metadata": {"total_size": total}, "weight_map": of}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    print(f"{folder}: {total / 1e9:.2f} GB, {total // 2:,} parameters")


def size_of(dims: tuple[int, ...]) -> int:
    """Bytes of a tensor."""
    return 2 * int(np.prod(dims))


def sharded(tensors: list[tuple[str, tuple[int, ...]]], most: int) -> list[dict[str, tuple[int, ...]]]:
    """Tensors by file, none of which is larger than `most` bytes unless it holds one alone."""
    files: list[dict[str, tuple[int, ...]]] = [{}]
    held = 0
    for name, dims in tensors:
        if files[-1] and held + size_of(dims) > most:
            files.append({})
            held = 0
        files[-1][name] = dims
        held += size_of(dims)
    return files


def write_file(path: Path, tensors: dict[str, tuple[int, ...]], rng: np.random.Generator) -> int:
    """One safetensors file; how many bytes its tensors have."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, dims in tensors.items():
        end = offset + size_of(dims)
        header[name] = {"dtype": "BF16", "shape": dims, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, dims in tensors.items():
            for piece in pieces(name, dims, rng):
                file.write(piece)
    return offset


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--shape", choices=SHAPES, default="llama-3.2-1b")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    write(args.folder, args.shape, args.seed)


if __name__ == "__main__":
    main()
