"""How a weight is packed for MatMulNBits."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

__all__ = ["SMALLEST_BLOCK", "Form"]

SMALLEST_BLOCK = 16
"""The least block_size that MatMulNBits and QMoE take (onnxruntime's ContribOperators.md)."""

_TEXT = re.compile(r"(2|4|8)/(16|32|64|128|256)(z?)")


@dataclass(frozen=True, order=True)
class Form:
    """`bits` a weight in blocks of `block` along the reduced axis, a float32 scale each.

    With `zeros` each block has a zero point too, of as many bits; without, it is 2^(bits-1). Written "4/128",
    "4/32z".
    """

    bits: int
    block: int
    zeros: bool = False

    def __str__(self) -> str:
        return f"{self.bits}/{self.block}{'z' if self.zeros else ''}"

    @classmethod
    def parse(cls, text: str) -> Form:
        """The form that `text` names. `ValueError` where it names none."""
        found = _TEXT.fullmatch(text.strip())
        if found is None:
            raise ValueError(f"{text!r} is not of the form BITS/BLOCK or BITS/BLOCKz, such as 4/128")
        return cls(int(found[1]), int(found[2]), found[3] == "z")

    def fitting(self, width: int) -> Form:
        """This form with blocks that are no longer than rows of `width`, where smaller ones will do."""
        block = self.block
        while block > width and block > SMALLEST_BLOCK:
            block //= 2
        return replace(self, block=block)

    @property
    def bits_a_weight(self) -> float:
        """Bits stored for each weight, scale and zero point included."""
        return self.bits + (32 + (self.bits if self.zeros else 0)) / self.block
