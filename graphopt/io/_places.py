"""Where graphopt keeps what it can make again."""

from __future__ import annotations

import os
from pathlib import Path

from graphopt.errors import BadInput

__all__ = ["cache_folder"]


def cache_folder() -> Path:
    """$GRAPHOPT_CACHE, else graphopt in $XDG_CACHE_HOME, else ~/.cache/graphopt."""
    if chosen := os.environ.get("GRAPHOPT_CACHE"):
        try:
            return Path(chosen).expanduser().absolute()
        except RuntimeError as error:
            raise BadInput(f"GRAPHOPT_CACHE={chosen!r} names no folder: {error}") from error
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "graphopt"
