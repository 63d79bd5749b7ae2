"""Train tiny-coder on the Python standard library's own sources.

    python models/tiny_coder/train.py --out models/tiny_coder --minutes 60

One process on CPU; the corpus is whatever ``Lib/`` the running interpreter has, so the version
used is recorded in ``training.json``. Everything is seeded; the wall-clock budget decides how
many steps are taken, and the learning-rate schedule follows elapsed time.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import platform
import sysconfig
import time
from pathlib import Path

import numpy as np
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

END_OF_TEXT = "<|endoftext|>"
VOCABULARY = 4096  # its table, tied, is a fifth of the 5.6 million parameters
CONTEXT = 512  # a judgement: a function fits, and attention costs little to train on a CPU
SKIPPED_FOLDERS = {"site-packages", "test", "tests", "idle_test", "lib2to3", "__pycache__", "pydoc_data"}
TABLES = ("encodings/cp", "encodings/iso8859", "encodings/mac_", "encodings/koi8", "encodings/kz1048")


def corpus(root: Path) -> dict[str, str]:
    """Relative path -> text of every library module that is written by hand and is no test."""
    found = {}
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root).as_posix()
        if SKIPPED_FOLDERS & set(path.relative_to(root).parts) or path.name.startswith("test_"):
            continue
        if name.startswith((*TABLES, "_sysconfigdata")):
            continue
        found[name] = path.read_text(encoding="utf-8", errors="ignore")
    return found


def split_of(name: str) -> str:
    """Which split a file belongs to: by the hash of its name, 4 % held out, 3 % calibration."""
    bucket = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") % 100
    return "heldout" if bucket < 4 else "calibration" if bucket < 7 else "train"


def excerpt(files: dict[str, str], limit: int) -> str:
    """Whole files, in hash order, joined by the end-of-text mark, at most `limit` bytes."""
    chosen, size = [], 0
    for name in sorted(files, key=lambda n: hashlib.sha256(n.encode()).hexdigest()):
        length = len(files[name].encode()) + len(END_OF_TEXT) + 1
        if length > 48_000 or size + length > limit:
            continue
        chosen.append(files[name])
        size += length
    return (END_OF_TEXT + "\n").join(chosen)


def train_tokenizer(texts: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def config() -> LlamaConfig:
    return LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=6,
        num_attention_heads=8,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=CONTEXT,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )


def bits_per_byte(model: LlamaForCausalLM, tokens: np.ndarray, n_bytes: int, context: int = CONTEXT) -> float:
    """Negative log2-likelihood of `tokens` int64[N] over `n_bytes`, in windows of `context`."""
    model.eval()
    total = 0.0
    with torch.no_grad():
        for start in range(0, len(tokens) - 1, context - 1):
            window = torch.from_numpy(tokens[start : start + context])[None]
            if window.shape[1] < 2:
                continue
            logits = model(input_ids=window).logits[0, :-1].float()
            total += torch.nn.functional.cross_entropy(logits, window[0, 1:], reduction="sum").item()
    model.train()
    return total / math.log(2) / n_bytes


def optimizers(model: LlamaForCausalLM) -> list[torch.optim.Optimizer]:
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    others = [p for n, p in model.named_parameters() if p.ndim != 2 or "embed" in n]
    return [
        torch.optim.Muon(matrices, lr=0.02, weight_decay=0.05, momentum=0.95),
        torch.optim.AdamW(others, lr=3e-3, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def schedule(progress: float) -> float:
    """Learning-rate factor at `progress` in [0, 1]: short warm-up, flat, linear to zero."""
    return min(progress / 0.02, 1.0) * min(1.0, (1.0 - progress) / 0.55)


def train(
    model: LlamaForCausalLM,
    tokens: np.ndarray,
    minutes: float,
    batch: int,
    context: int = CONTEXT,
    rate: float = 1.0,
) -> int:
    """How many steps were taken; `rate` is the learning rate as a part of that from random weights."""
    rng = np.random.default_rng(0)
    optims = optimizers(model)
    base = [rate * group["lr"] for o in optims for group in o.param_groups]
    started, step, average = time.monotonic(), 0, None
    order: list[int] = []
    while (progress := (time.monotonic() - started) / (60 * minutes)) < 1:
        if len(order) < batch:
            offset = int(rng.integers(context))
            order = list(rng.permutation(np.arange(offset, len(tokens) - context - 1, context)))
        rows = np.stack([tokens[s : s + context + 1] for s in (order.pop() for _ in range(batch))])
        window = torch.from_numpy(rows)
        for group, usual in zip([g for o in optims for g in o.param_groups], base, strict=True):
            group["lr"] = usual * schedule(progress)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = model(input_ids=window[:, :-1]).logits
        loss = torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), window[:, 1:].flatten())
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for o in optims:
            o.step()
            o.zero_grad(set_to_none=True)
        step += 1
        average = loss.item() if average is None else 0.98 * average + 0.02 * loss.item()
        if step % 25 == 0:
            print(f"step {step}  {progress:5.1%}  loss {average:.3f}", flush=True)
    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=0, help="0: what PyTorch chooses")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.manual_seed(0)

    splits: dict[str, dict[str, str]] = {"train": {}, "heldout": {}, "calibration": {}}
    for name, text in corpus(Path(sysconfig.get_paths()["stdlib"])).items():
        splits[split_of(name)][name] = text
    out: Path = args.out
    out.mkdir(parents=True, exist_ok=True)
    tokenizer = train_tokenizer(list(splits["train"].values()))
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        model_max_length=CONTEXT,
    )
    wrapped.save_pretrained(out)
    heldout = excerpt(splits["heldout"], 300_000)
    (out / "heldout.txt").write_text(heldout, encoding="utf-8")
    (out / "calibration.txt").write_text(excerpt(splits["calibration"], 200_000), encoding="utf-8")

    joined = END_OF_TEXT + END_OF_TEXT.join(splits["train"].values())
    tokens = np.asarray(tokenizer.encode(joined).ids, np.int64)
    held_tokens = np.asarray([0, *tokenizer.encode(heldout).ids], np.int64)
    model = LlamaForCausalLM(config())
    print(f"{model.num_parameters():,} parameters, {len(tokens):,} training tokens", flush=True)
    steps = train(model, tokens, args.minutes, args.batch)

    model = model.to(torch.bfloat16)
    model.save_pretrained(out)
    measured = bits_per_byte(model.float(), held_tokens, len(heldout.encode()))
    facts = {
        "heldout_bits_per_byte": round(measured, 4),
        "parameters": model.num_parameters(),
        "training_tokens": len(tokens),
        "training_bytes": sum(len(t.encode()) for t in splits["train"].values()),
        "heldout_bytes": len(heldout.encode()),
        "steps": steps,
        "tokens_seen": steps * args.batch * CONTEXT,
        "minutes": args.minutes,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    (out / "training.json").write_text(json.dumps(facts, indent=2) + "\n")
    print(json.dumps(facts, indent=2))


if __name__ == "__main__":
    main()
