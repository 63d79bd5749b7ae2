"""Files a package takes over from the source."""

from __future__ import annotations

import shutil
from pathlib import Path

_TOKENIZER = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.model",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
)
_IMAGE = ("preprocessor_config.json", "processor_config.json")


def copy_tokenizer(source: Path, staging: Path) -> None:
    """Copy whatever tokenizer files there are."""
    _copy(source, staging, _TOKENIZER)


def copy_image_processor(source: Path, staging: Path) -> None:
    """Copy what says how images become pixel values."""
    _copy(source, staging, _IMAGE)


def copy_config(source: Path, staging: Path) -> None:
    """Copy the model's configuration, which names classes and labels."""
    _copy(source, staging, ("config.json",))


def _copy(source: Path, staging: Path, names: tuple[str, ...]) -> None:
    for name in names:
        if (source / name).is_file():
            shutil.copyfile(source / name, staging / name)
