"""Write a Llama-shaped checkpoint with random bf16 weights, for measurements where only the shape matters.

    python benchmarks/make_model.py build/llama-1b                     # Llama-3.2-1B's shape, 2.5 GB
    python benchmarks/make_model.py build/llama-small --layers 2 --hidden 256 --ffn 768 ...

Weights are normal with the initializer's standard deviation, seeded; norms are ones. The tokenizer is the
embedded model's (its 4096 entries are the first of the vocabulary), so that text tools run.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np

STANDARD_DEVIATION = 0.02
TOKENIZER = Path(__file__).parent.parent / "models" / "tiny_coder"


def config(args: argparse.Namespace) -> dict[str, object]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": "bfloat16",
        "hidden_size": args.hidden,
        "intermediate_size": args.ffn,
        "num_hidden_layers": args.layers,
        "num_attention_heads": args.heads,
        "num_key_value_heads": args.kv_heads,
        "head_dim": args.hidden // args.heads,
        "vocab_size": args.vocabulary,
        "max_position_embeddings": args.context,
        "rms_norm_eps": 1e-5,
        "rope_parameters": {"rope_type": "default", "rope_theta": 500000.0},
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": True,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "pad_token_id": 0,
        "initializer_range": STANDARD_DEVIATION,
    }


def shapes(args: argparse.Namespace) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Tensor names and shapes, in the checkpoint's order."""
    head = args.hidden // args.heads
    yield "model.embed_tokens.weight", (args.vocabulary, args.hidden)
    for i in range(args.layers):
        layer = f"model.layers.{i}"
        yield f"{layer}.input_layernorm.weight", (args.hidden,)
        yield f"{layer}.self_attn.q_proj.weight", (args.hidden, args.hidden)
        yield f"{layer}.self_attn.k_proj.weight", (args.kv_heads * head, args.hidden)
        yield f"{layer}.self_attn.v_proj.weight", (args.kv_heads * head, args.hidden)
        yield f"{layer}.self_attn.o_proj.weight", (args.hidden, args.hidden)
        yield f"{layer}.post_attention_layernorm.weight", (args.hidden,)
        yield f"{layer}.mlp.gate_proj.weight", (args.ffn, args.hidden)
        yield f"{layer}.mlp.up_proj.weight", (args.ffn, args.hidden)
        yield f"{layer}.mlp.down_proj.weight", (args.hidden, args.ffn)
    yield "model.norm.weight", (args.hidden,)


def random_rows(shape: tuple[int, ...], rng: np.random.Generator) -> Iterator[bytes]:
    """The tensor's bytes (bf16, little-endian), a few megabytes at a time."""
    if len(shape) == 1:
        yield np.full(shape, 0x3F80, np.uint16).tobytes()
        return
    rows = max(1, (1 << 21) // shape[1])
    for start in range(0, shape[0], rows):
        block = rng.standard_normal((min(rows, shape[0] - start), shape[1]), np.float32)
        yield (
            (block * np.float32(STANDARD_DEVIATION))
            .view(np.uint32)
            .__rshift__(16)
            .astype(np.uint16)
            .tobytes()
        )


def write(folder: Path, args: argparse.Namespace) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config(args), indent=2) + "\n")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(TOKENIZER / name, folder / name)
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, shape in shapes(args):
        size = 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    rng = np.random.default_rng(args.seed)
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, shape in shapes(args):
            for piece in random_rows(shape, rng):
                file.write(piece)
    print(f"{folder}: {offset / 1e9:.2f} GB, {offset // 2:,} parameters")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--hidden", type=int, default=2048)
    parser.add_argument("--ffn", type=int, default=8192)
    parser.add_argument("--layers", type=int, default=16)
    parser.add_argument("--heads", type=int, default=32)
    parser.add_argument("--kv-heads", type=int, default=8)
    parser.add_argument("--vocabulary", type=int, default=128256)
    parser.add_argument("--context", type=int, default=131072)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    write(args.folder, args)


if __name__ == "__main__":
    main()
