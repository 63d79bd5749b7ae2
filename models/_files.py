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
    "spiece.model",
    "source.spm",
    "target.spm",
    "chat_template.jinja",
    "chat_template.json",
)
_PROCESSOR = ("preprocessor_config.json", "processor_config.json")


def copy_tokenizer(source: Path, staging: Path) -> None:
    """Copy whatever tokenizer files there are."""
    _copy(source, staging, _TOKENIZER)


def copy_processor(source: Path, staging: Path) -> None:
    """Copy what says how images become pixel values, or sounds features."""
    _copy(source, staging, _PROCESSOR)


def copy_config(source: Path, staging: Path) -> None:
    """Copy the model's configuration, which names classes and labels."""
    _copy(source, staging, ("config.json",))


def copy_generation(source: Path, staging: Path) -> None:
    """Copy how the model's makers generate: first token, last token, length."""
    _copy(source, staging, ("generation_config.json",))


def _copy(source: Path, staging: Path, names: tuple[str, ...]) -> None:
    for name in names:
        if (source / name).is_file():
            shutil.copyfile(source / name, staging / name)
