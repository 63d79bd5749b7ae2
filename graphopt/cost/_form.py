"""How a weight is packed in blocks of integers."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from graphopt.errors import BadInput

__all__ = ["SMALLEST_BLOCK", "Form"]

SMALLEST_BLOCK = 16
"""The least block that onnxruntime's kernels take (its ContribOperators.md)."""

_TEXT = re.compile(r"(2|4|8)/(16|32|64|128|256)(z?)")


@dataclass(frozen=True, order=True)
class Form:
    """`bits` a weight in blocks of `block` along the reduced axis, a float32 scale each.

    With `zeros` each block has a zero point too, of as many bits. Written "4/128", "4/32z".
    """

    bits: int
    block: int
    zeros: bool = False

    @classmethod
    def parse(cls, text: str) -> Form:
        """The form that `text` names. Raises `BadInput` where it names none."""
        found = _TEXT.fullmatch(text.strip())
        if found is None:
            raise BadInput(
                f"{text!r} is no form of weights: BITS/BLOCK or BITS/BLOCKz, such as 4/128, or 16 or 32"
            )
        return cls(int(found[1]), int(found[2]), found[3] == "z")

    def fitting(self, width: int) -> Form:
        """This form with blocks that are no longer than rows of `width`, where smaller ones will do."""
        block = self.block
        while block > width and block > SMALLEST_BLOCK:
            block //= 2
        return replace(self, block=block)

    def ending(self, width: int) -> Form | None:
        """This form with blocks that rows of `width` end with; None where they end with none."""
        block = self.block
        while width % block and block > SMALLEST_BLOCK:
            block //= 2
        return None if width % block else replace(self, block=block)
