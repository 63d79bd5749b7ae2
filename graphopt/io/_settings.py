"""Settings out of files and texts that nobody vouches for."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

from graphopt.errors import BadInput

__all__ = ["is_count", "read_json", "read_toml"]


def is_count(text: str) -> bool:
    """Whether `text` is a number of things, in digits; 18 of them always fit in 64 bits."""
    return re.fullmatch("[0-9]{1,18}", text) is not None


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file; `BadInput` where that holds something else, `OSError` without the file."""
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise BadInput(f"{path} does not hold a JSON object")
    return value


def read_toml(path: Path) -> dict[str, Any]:
    """The table in a TOML file; `BadInput` where it is none, `OSError` without the file."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits are a plain ValueError
        raise BadInput(f"{path} is not TOML: {error}") from error
