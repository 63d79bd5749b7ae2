"""Work that is done once, wherever there is room for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Task"]


@dataclass(frozen=True)
class Task:
    """A call that gives JSON: `function` is "module:name", `arguments` are JSON too.

    The digest of both, and of the code behind them, is what its result is kept under, so that nothing is done
    twice. `cores` and `memory` (bytes) are what it may take. `alone`: at most one such task at a time on a
    machine, nodes of a cluster that share a host being one; what is timed is.
    """

    function: str
    arguments: Mapping[str, Any]
    cores: float = 1
    memory: int = 0
    alone: bool = False
