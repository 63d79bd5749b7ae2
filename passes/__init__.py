"""The built-in passes and recipes."""

from __future__ import annotations

from pathlib import Path

from graphopt.registry import Pack

PACK = Pack(
    passes=(),
    recipes=Path(__file__).parent / "recipes",
)
