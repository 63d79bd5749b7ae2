"""GPTQModel's 4-bit linears of a checkpoint; runs in the environment build/peers/gptqmodel.

    build/peers/gptqmodel/bin/python benchmarks/_gptqmodel.py models/tiny_coder OUT --group 128

At its defaults but for the group size and the calibration text, on the CPU. OUT/packed is what it exports,
OUT/fp32 the model with the weights that these stand for by its own dequantization, in float32.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

os.environ.setdefault("GPTQMODEL_CPU_WORKERS", "2")  # its loader wants two, of which its default has one here

import torch
from _calibration import windows
from gptqmodel import BACKEND, GPTQModel, QuantizeConfig
from gptqmodel.nn_modules.qlinear.torch import TorchLinear
from transformers import AutoModelForCausalLM, AutoTokenizer


def dequantized(packed: Path, source: Path) -> torch.nn.Module:
    """The source model in fp32 with the weights that the packed ones stand for."""
    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    rounded = GPTQModel.load(str(packed), device="cpu", backend=BACKEND.TORCH).model
    count = 0
    for name, module in rounded.named_modules():
        if isinstance(module, TorchLinear):
            module.scales.data = module.scales.float()
            weight = module.dequantize_weight().T
            model.get_submodule(name).weight.data = weight.float().contiguous()
            count += 1
    assert count == 7 * model.config.num_hidden_layers, count
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--group", type=int, default=128)
    args = parser.parse_args()
    config = QuantizeConfig(bits=4, group_size=args.group)
    model = GPTQModel.load(str(args.source), config, device="cpu")
    rows = windows(args.source)
    model.quantize([{"input_ids": row.tolist(), "attention_mask": [1] * len(row)} for row in rows])
    model.save(str(args.out / "packed"))
    dequantized(args.out / "packed", args.source).save_pretrained(args.out / "fp32")
    AutoTokenizer.from_pretrained(args.source).save_pretrained(args.out / "fp32")


if __name__ == "__main__":
    main()
