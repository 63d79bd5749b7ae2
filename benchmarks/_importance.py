"""A checkpoint as GGUF files that are rounded by an importance matrix.

    python benchmarks/_importance.py models/tiny_coder OUT Q4_0 Q4_K_M

llama-cpp-python brings no tool for that matrix, so it is made here as llama.cpp's own makes it
(`tools/imatrix/imatrix.cpp`: contexts of 512 tokens, the mean square of each input of each product of a
layer; the head has none unless asked for), from the model in fp32 on the calibration text. The rest is
_gguf.py's, in the environment of llama.cpp.
"""

from __future__ import annotations

import argparse
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import peers
import torch
from _calibration import windows
from transformers import AutoModelForCausalLM

HERE = Path(__file__).parent


def importance(source: Path, tokens: np.ndarray[Any, np.dtype[np.int64]]) -> dict[str, np.ndarray[Any, Any]]:
    """Mean square of each input of the layers' linears, float32[inputs] by the name of the weight."""
    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32).eval()
    sums: dict[str, torch.Tensor] = {}

    def adding(name: str) -> Callable[[torch.nn.Module, tuple[torch.Tensor, ...]], None]:
        def hook(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            rows = inputs[0].flatten(0, -2).double()
            sums[name] = sums.get(name, torch.zeros(rows.shape[-1], dtype=torch.float64)) + (rows**2).sum(0)

        return hook

    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and ".layers." in name:
            module.register_forward_pre_hook(adding(f"{name}.weight"))
    with torch.inference_mode():
        for window in tokens:
            model(torch.from_numpy(window[None]))
    return {name: (total / tokens.size).float().numpy() for name, total in sums.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("kinds", nargs="+")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    file = args.out / "importance.npz"
    np.savez(file, **importance(args.source, windows(args.source)))
    words = [
        peers.python("llama"),
        HERE / "_gguf.py",
        args.source,
        args.out,
        *args.kinds,
        "--importance",
        file,
    ]
    subprocess.run([str(word) for word in words], check=True)


if __name__ == "__main__":
    main()
