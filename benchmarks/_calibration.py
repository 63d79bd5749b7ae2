"""The calibration text as every peer gets it; needs numpy and tokenizers, which peers' environments have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

TEXT = Path(__file__).parent.parent / "models" / "tiny_coder" / "calibration.txt"
WINDOW = 512


def windows(source: Path, text: Path = TEXT, length: int = WINDOW) -> np.ndarray:
    """The text in the tokens of the model in `source`, int64[n, length], each begun as the model expects."""
    tokenizer = Tokenizer.from_file(str(source / "tokenizer.json"))
    framed, plain = (tokenizer.encode("a", add_special_tokens=special).ids for special in (True, False))
    opening = framed[: len(framed) - len(plain)]
    ids = tokenizer.encode(text.read_text(encoding="utf-8"), add_special_tokens=False).ids
    step = length - len(opening)
    rows = [[*opening, *ids[at : at + step]] for at in range(0, len(ids) - step + 1, step)]
    return np.asarray(rows, np.int64)
