"""AutoRound's 4-bit linears of a checkpoint; runs in the environment build/peers/auto-round.

    build/peers/auto-round/bin/python benchmarks/_auto_round.py models/tiny_coder OUT --group 128 --asymmetric

At its defaults (200 iterations) but for the group size and the calibration text, on the CPU. OUT/fp32 is the
model with the weights that it rounded to, in float32; OUT/packed is what it exports.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from _calibration import windows
from auto_round import AutoRound
from transformers import AutoModelForCausalLM, AutoTokenizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--group", type=int, default=128)
    parser.add_argument("--asymmetric", action="store_true")
    parser.add_argument("--iterations", type=int, default=200)
    args = parser.parse_args()
    rows = torch.from_numpy(windows(args.source))
    model = AutoModelForCausalLM.from_pretrained(args.source, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(args.source)
    rounding = AutoRound(
        model, tokenizer, scheme="W4A16", group_size=args.group, sym=not args.asymmetric, device_map="cpu",
        dataset=[{"input_ids": row[None], "attention_mask": torch.ones_like(row)[None]} for row in rows],
        seqlen=rows.shape[1], nsamples=len(rows), iters=args.iterations, enable_torch_compile=False,
    )  # fmt: skip
    rounded, _ = rounding.quantize()
    rounded.float().save_pretrained(args.out / "fp32")
    tokenizer.save_pretrained(args.out / "fp32")
    # 0.16.0 cannot write zero points in its own format: findings/auto-round-zero-points.sh.
    form = "auto_gptq" if args.asymmetric else "auto_round"
    rounding.save_quantized(str(args.out / "packed"), format=form, inplace=True)


if __name__ == "__main__":
    main()
