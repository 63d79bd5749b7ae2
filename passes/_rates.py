"""Which block size of MatMulNBits is worth taking, by how long products take on the target."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["BLOCKS", "chosen_block"]

BLOCKS = (128, 256)
"""What is weighed: smaller blocks are slower wherever they were measured (docs/decisions/block-size.md)."""

_WORTH = 1.05
"""How much faster a larger block has to be: it loses more, and equals differ by percents when measured."""


def chosen_block(seconds: Mapping[str, float]) -> int:
    """The fastest block, from seconds by block size; a larger one only where it pays for what it loses."""
    best = min(BLOCKS)
    for block in BLOCKS:
        if seconds[str(best)] / seconds[str(block)] >= _WORTH:
            best = block
    return best
