"""An id for padding that no text has."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

__all__ = ["choose_padding"]

_NO_TEXT = ("<0xFF>", "ÿ")
"""Tokens for the byte 255, which no UTF-8 holds, in vocabularies with byte fallback and of byte levels."""
_NOTE = "onnxruntime-genai takes tokens {} at the end of a prompt for padding: leave them out"


def choose_padding(staging: Path, config: Mapping[str, Any]) -> list[str]:
    """Write an id into `staging`/genai_config.json that no prompt ends with; a note if there is none.

    onnxruntime-genai takes a prompt's last tokens for padding where they are that id, also in a batch of one.
    The source's own one stays if it is a special token and no text begins or ends with it; else it is a row
    that no token has, or the token of a byte that is no text.
    """
    path, file = staging / "genai_config.json", staging / "tokenizer.json"
    if not file.is_file():
        return []
    settings, library = json.loads(path.read_text(encoding="utf-8")), Tokenizer.from_file(str(file))
    model, rows = settings["model"], int(config["vocab_size"])
    ends, own = model.get("eos_token_id"), model.get("pad_token_id")
    taken = {model.get("bos_token_id"), *(ends if isinstance(ends, list) else [ends])}
    special = {token for token, added in library.get_added_tokens_decoder().items() if added.special}
    if own in special - taken and own < rows:
        return []
    found = _unused(library, rows)
    if found is None:
        return [_NOTE.format(own)] if own is not None else []
    model["pad_token_id"] = found
    path.write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return []


def _unused(library: Tokenizer, rows: int) -> int | None:
    """The last row, if no token has it, or a byte that is no text."""
    ids = library.get_vocab(with_added_tokens=True)
    if rows - 1 > max(ids.values(), default=rows):
        return rows - 1
    found = (ids[word] for word in _NO_TEXT if word in ids)
    return next((token for token in found if token < rows and library.decode([token]) == "\ufffd"), None)
