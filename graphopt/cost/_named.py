"""Published sizes of decoders by name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

__all__ = ["SHAPES", "SHAPE_SOURCES"]

_READ: dict[str, dict[str, Any]] = json.loads((files(__package__) / "shapes.json").read_text("utf-8"))

SHAPES: Mapping[str, Mapping[str, Any]] = {name: shape["config"] for name, shape in _READ.items()}
"""What config.json says, by name."""
SHAPE_SOURCES: Mapping[str, str] = {name: shape["source"] for name, shape in _READ.items()}
"""Where the sizes are from."""
