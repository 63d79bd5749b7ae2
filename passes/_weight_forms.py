"""Which form a weight is packed in, by plan, by options, and by what is fast on the target."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from graphopt.ir import Expr
from graphopt.pipeline import Context
from graphopt.targets import BlockProduct, Target

from ._forms import SMALLEST_BLOCK, Form
from ._rates import BLOCKS, chosen_block
from ._zeros import zero_points_pay

__all__ = ["USUAL", "WeightForms", "dividing", "is_measured"]

USUAL = 128  # loses little and is read fast: docs/decisions/block-size.md
_LARGE = 1 << 22  # entries: smaller weights stay in the processor's cache, and cost little


@dataclass(frozen=True)
class WeightForms:
    """What the options of quantize-weights of the same names ask for, and what plan-bits decided."""

    context: Context
    bits: int
    block_size: int | str
    zero_points: Literal["never", "auto", "always"]
    accuracy_level: int

    def of(self, name: str, rows: Expr, gram: NDArray[np.float32] | None = None) -> Form:
        """That of the weight `name`, `rows` [N, K]; `gram` is of what it is multiplied by, where known."""
        form, is_planned = self.without_zeros(name, rows)
        if self.zero_points != "auto" or is_planned:
            return form
        key = f"quantize-weights: zero points of {name} pay in {form}"
        return replace(form, zeros=self.context.decide(key, lambda: zero_points_pay(rows, form, gram)))

    def of_table(self, name: str, rows: Expr, bits: int) -> Form:
        """That of a table that rows are only looked up in, with `bits`; they end with a block if any fits."""
        planned = self.context.decisions.get("plan-bits", {}).get(name)
        if planned is not None:
            return Form.parse(planned).fitting(rows.shape[1])
        block = USUAL if self.block_size == "auto" else int(self.block_size)
        return Form(bits, dividing(block, rows.shape[1]), self.zero_points == "always")

    def without_zeros(self, name: str, rows: Expr) -> tuple[Form, bool]:
        """The form before it is known whether zero points pay, and whether it was planned."""
        count, width = rows.shape
        planned = self.context.decisions.get("plan-bits", {}).get(name)
        if planned is not None:
            return Form.parse(planned).fitting(width), True
        form = Form(self.bits, self._block(count, width), self.zero_points == "always")
        return form.fitting(width), False

    def _block(self, count: int, width: int) -> int:
        if self.block_size != "auto":
            return int(self.block_size)
        if is_measured(width, count) and self.context.target is not None:
            return self._fastest(self.context.target, count, width)
        return USUAL

    def _fastest(self, target: Target, count: int, width: int) -> int:
        """The block that text is read and written fastest with, by these weights [count, width]."""
        key = f"quantize-weights: seconds of {width} x {count}, {self.bits} bits, by block size"
        product = BlockProduct(bits=self.bits, k=width, n=count, level=self.accuracy_level)
        seconds = self.context.decisions.get(key) or target.product_seconds(product, BLOCKS)
        if seconds is None:
            return USUAL
        measured = {str(block): s for block, s in seconds.items()}
        return chosen_block(self.context.decide(key, lambda: measured))


def is_measured(width: int, count: int) -> bool:
    """Whether a weight of `count` rows is large enough that the fastest block is looked for."""
    return count * width >= _LARGE and width % max(BLOCKS) == 0


def dividing(block: int, width: int) -> int:
    """`block`, or a smaller one, so that `width` is whole blocks, if any makes it so."""
    while width % block and block > SMALLEST_BLOCK:
        block //= 2
    return block
