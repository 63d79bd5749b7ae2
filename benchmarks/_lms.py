"""The trained language models that compression is measured on, and their held-out text."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from graphopt.evaluate._corpus import built_in_corpus, sequences
from graphopt.runtime import Tokenizer

HERE = Path(__file__).parent
LMS = {
    "tiny-coder": HERE.parent / "models" / "tiny_coder",
    "tiny-qwen3": HERE / "lms" / "tiny-qwen3",
    "tiny-qwen2": HERE / "lms" / "tiny-qwen2",
}
TOKENS = 16384
WEIGHTS = "model.safetensors"

Tokens = np.ndarray[Any, np.dtype[np.int64]]


def heldout(source: Path, tokens: int = TOKENS) -> list[Tokens]:
    """The first `tokens` of the embedded held-out text, in windows int64[S]."""
    found = sequences(built_in_corpus(), Tokenizer(source), tokens=tokens, context=None)
    return [window.tokens for window in found]


def tensors_of(path: Path) -> dict[str, tuple[str, list[int]]]:
    """Data types and shapes in a safetensors file, by name."""
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return {
        name: (about["dtype"], about["shape"]) for name, about in header.items() if name != "__metadata__"
    }


def parameters(source: Path) -> int:
    """Entries of all tensors of a checkpoint in one file: a tied table is there once."""
    return sum(math.prod(shape) for _, shape in tensors_of(source / WEIGHTS).values())


def digest(source: Path) -> str:
    """What says which weights, configuration and tokenizer these are."""
    content = hashlib.sha256()
    for name in (WEIGHTS, "config.json", "tokenizer.json"):
        content.update((source / name).read_bytes())
    return content.hexdigest()[:12]
