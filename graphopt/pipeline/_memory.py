"""Where results of passes are kept for a run that comes later."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np

    from graphopt.interface import Arrays

__all__ = ["Memory"]


class Memory(Protocol):
    """Arrays by keys, of the step that runs: they count for its options, or `for_any_options` of it."""

    def recall(self, key: str, *, for_any_options: bool) -> dict[str, np.ndarray] | None:
        """What was kept, if anything was."""

    def keep(self, key: str, arrays: Arrays, *, for_any_options: bool) -> None:
        """Keep it."""
