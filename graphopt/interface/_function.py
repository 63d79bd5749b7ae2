"""Models as functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from numpy.typing import NDArray

__all__ = ["Arrays", "Model"]


Arrays = Mapping[str, NDArray[Any]]

Model = Callable[[Arrays], Mapping[str, NDArray[Any]]]
