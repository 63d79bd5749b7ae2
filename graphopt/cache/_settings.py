"""How large the cache may grow."""

from __future__ import annotations

import os
import re

from graphopt.errors import BadInput

__all__ = ["cache_size"]

_DEFAULT = 20 * 10**9
"""Bytes. A judgement: states of a model of a few billion parameters fit, and disks of laptops can spare
it."""
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


def cache_size() -> int:
    """Bytes that entries may take: $GRAPHOPT_CACHE_SIZE ("500MB", bytes), else 20 GB; 0 means no cache."""
    text = os.environ.get("GRAPHOPT_CACHE_SIZE")
    if not text:
        return _DEFAULT
    match = re.fullmatch(r"(\d{1,18}(?:\.\d{1,18})?)\s*([KMGT]?)B?", text.strip().upper())
    if match is None:
        raise BadInput(f"GRAPHOPT_CACHE_SIZE={text!r} is not a size", hint='Write it as "20GB" or in bytes.')
    return int(float(match[1]) * _UNITS[match[2]])
