"""Export a checkpoint with transformers' own exporter, for its own runner.

    python benchmarks/_transformers_export.py build/models/llama-3.2-1b OUT

In fp32, fused for onnxruntime on the CPU as far as it does. Of the graphs it makes the one that reads several
tokens after a cache is kept: it serves prompts as well (from an empty cache), at half the memory.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM
from transformers.exporters import OnnxConfig, OnnxExporter


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    model = AutoModelForCausalLM.from_pretrained(args.source, dtype=torch.float32).eval()
    sample = {
        "input_ids": torch.arange(1, 17).reshape(2, 8),
        "attention_mask": torch.tensor([[0] * 3 + [1] * 5, [1] * 8]),
    }
    exported = OnnxExporter().export_for_generation(
        model, sample, OnnxConfig(dynamic=True, ort_fusions="cpu"), multi_token_decode=True
    )
    exported.components = {"decode": exported.components["decode"]}
    exported.save_pretrained(args.out)


if __name__ == "__main__":
    main()
