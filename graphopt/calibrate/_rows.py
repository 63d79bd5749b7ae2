"""Activations as rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["as_rows"]


def as_rows(array: NDArray[Any], k: int) -> NDArray[np.float32]:
    """`array` [..., k] as float32 [rows, k]. `ValueError` where its last dimension is another."""
    if not array.ndim or array.shape[-1] != k:
        raise ValueError(f"activations of shape {list(array.shape)} have no rows of {k}")
    return array.reshape(-1, k).astype(np.float32, copy=False)
