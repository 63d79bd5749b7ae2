"""What a table of results says of where it comes from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from _results import command, today
from _results import versions as versions_here
from _rounds import Round, machine, others, versions

OVER_ROUNDS = "95 % bootstrap interval, over rounds, of the median of paired ratios"


def of_rounds(rounds: Sequence[Round]) -> dict[str, Any]:
    """Fields of a table that was measured in these rounds."""
    return {
        "date": max(one.when for one in rounds)[:10],
        "machine": machine(),
        "versions": versions(rounds),
        "command": command(),
        "rounds": len(rounds),
        "notes": [others(rounds)],
    }


def here(*distributions: str, rounds: int | None = None) -> dict[str, Any]:
    """Fields of a table that this process measures now."""
    found = {"date": today(), "machine": machine(), "command": command(), "rounds": rounds}
    return found | {"versions": versions_here("graphopt", "onnxruntime", *distributions)}
