"""Train one of the small language models that compression is measured on, beside the embedded one.

    python benchmarks/train_lm.py tiny-qwen3 --minutes 80 --threads 1
    python benchmarks/train_lm.py tiny-qwen3-long --minutes 25 --threads 1 --batch 1

Corpus, split, tokenizer and optimizers are those of models/tiny_coder/train.py; the architecture is another.
The long one goes on from the weights of tiny-qwen3. It writes benchmarks/lms/NAME: weights in bfloat16,
configuration, tokenizer and training.json.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import sysconfig
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers import AutoTokenizer, PreTrainedConfig, Qwen2Config, Qwen3Config

HERE = Path(__file__).resolve().parent
EMBEDDED = HERE.parent / "models" / "tiny_coder"
sys.path.insert(0, str(EMBEDDED))

import train as recipe  # noqa: E402

LONG = 3072  # positions: a text of 2,048 tokens, and what is judged after them
FURTHER = 0.15  # of the learning rate: more unlearns what the shorter one knows
_COMMON: dict[str, Any] = {
    "vocab_size": recipe.VOCABULARY,
    "hidden_size": 256,
    "intermediate_size": 768,
    "num_attention_heads": 8,
    "max_position_embeddings": recipe.CONTEXT,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 0,
}
ARCHITECTURES: dict[str, PreTrainedConfig] = {
    # Norms of queries and keys, tied.
    "tiny-qwen3": Qwen3Config(
        **_COMMON, num_hidden_layers=6, num_key_value_heads=2, head_dim=32, tie_word_embeddings=True
    ),
    # Biases of queries, keys and values, a head of its own.
    "tiny-qwen2": Qwen2Config(
        **_COMMON, num_hidden_layers=4, num_key_value_heads=4, tie_word_embeddings=False
    ),
}
ARCHITECTURES["tiny-qwen3-long"] = Qwen3Config(
    **ARCHITECTURES["tiny-qwen3"].to_dict()
    | {
        "max_position_embeddings": LONG,
        "rope_parameters": {"rope_type": "default", "rope_theta": 80000.0},
    }
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=ARCHITECTURES)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--minutes", type=float, default=80.0)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=0, help="0: what PyTorch chooses")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    out: Path = args.out or HERE / "lms" / args.name
    out.mkdir(parents=True, exist_ok=True)

    texts: dict[str, list[str]] = {"train": [], "heldout": [], "calibration": []}
    for name, text in recipe.corpus(Path(sysconfig.get_paths()["stdlib"])).items():
        texts[recipe.split_of(name)].append(text)
    tokenizer = AutoTokenizer.from_pretrained(EMBEDDED)
    joined = recipe.END_OF_TEXT + recipe.END_OF_TEXT.join(texts["train"])
    tokens = np.asarray(tokenizer.backend_tokenizer.encode(joined).ids, np.int64)
    heldout = (EMBEDDED / "heldout.txt").read_text(encoding="utf-8")
    held_tokens = np.asarray([0, *tokenizer.backend_tokenizer.encode(heldout).ids], np.int64)

    config = ARCHITECTURES[args.name]
    context = config.max_position_embeddings
    tokenizer.model_max_length = context
    tokenizer.save_pretrained(out)
    model = transformers.AutoModelForCausalLM.from_config(config)
    rate = 1.0
    if context == LONG:
        rate = FURTHER
        shorter = transformers.AutoModelForCausalLM.from_pretrained(
            HERE / "lms" / "tiny-qwen3", dtype=torch.float32
        )
        model.load_state_dict(shorter.state_dict())
    print(f"{model.num_parameters():,} parameters, {len(tokens):,} training tokens", flush=True)
    steps = recipe.train(model, tokens, args.minutes, args.batch, context, rate)
    model = model.to(torch.bfloat16)
    model.save_pretrained(out)
    facts = {
        "heldout_bits_per_byte": round(
            recipe.bits_per_byte(model.float(), held_tokens, len(heldout.encode()), context), 4
        ),
        "parameters": model.num_parameters(),
        "training_tokens": len(tokens),
        "heldout_bytes": len(heldout.encode()),
        "steps": steps,
        "tokens_seen": steps * args.batch * context,
        "minutes": args.minutes,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    (out / "training.json").write_text(json.dumps(facts, indent=2) + "\n")
    print(json.dumps(facts, indent=2))


if __name__ == "__main__":
    main()
