"""A weight whose rounding is learned."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ._forms import Form
from ._nbits import Packed, levels_of, pack_levels, zero_points_of

__all__ = ["LearnedWeight"]

_HALF = 0.499  # as far as a weight may be from its level
_START = 0.4  # and at the beginning: nearer to the next level, too many go there that GPTQ sent the other way
_FACTORS = 0.2  # of the rate, for the logarithms of scales: all of a block's weights move with its scale
_BETAS = (0.9, 0.95)  # of Adam: the second as in training language models, for few steps


class LearnedWeight:
    """A weight float32 [N, K] in units of its blocks' scales, which rounding makes levels of `form`.

    It begins where `packed` rounds to, as near to `rows` as that allows, and moves with the gradient of what
    it rounds to (straight-through, arXiv 1308.3432): no farther than the outermost levels, but over more than
    one level where that helps. Scales move too, by factors (LSQ, arXiv 1902.08153).
    """

    def __init__(self, rows: Tensor, form: Form, packed: Packed) -> None:
        self.form, self._width, self._start = form, rows.shape[1], packed
        zero = torch.from_numpy(zero_points_of(packed, form.bits).astype(np.float32))[..., None]
        self._low, self._high = -zero, (1 << form.bits) - 1 - zero
        self._base = torch.from_numpy(packed.scales.copy())[..., None]
        levels = torch.from_numpy(levels_of(packed, form.bits).astype(np.float32)) - zero
        exact = self._blocks(rows) / torch.where(self._base == 0, torch.ones(()), self._base)
        self._steps = torch.clamp(exact, levels - _START, levels + _START)
        self._levels = levels
        self._factors = torch.zeros_like(self._base)
        # Adam's steps are as long as the rate, whatever the gradients: rates are in levels and in logarithms.
        groups = [{"params": [self._steps]}, {"params": [self._factors]}]
        self._adam = torch.optim.Adam(groups, lr=0.0, betas=_BETAS, eps=1e-30, fused=True)

    def _blocks(self, rows: Tensor) -> Tensor:
        return functional.pad(rows, (0, -self._width % self.form.block)).reshape(
            len(rows), -1, self.form.block
        )

    def _scales(self) -> Tensor:
        return self._base * torch.exp(self._factors)

    def rounded(self) -> Tensor:
        """The float32 [N, K] that `packed` stands for."""
        return (self._levels * self._scales()).flatten(-2)[:, : self._width].contiguous()

    def move(self, gradient: Tensor, rate: float) -> None:
        """One step against the `gradient` with respect to `rounded`; `rate` in levels."""
        blocks, scales = self._blocks(gradient.float()), self._scales()
        self._steps.grad = blocks * scales
        self._factors.grad = (blocks * self._levels).sum(-1, keepdim=True) * scales
        for group, share in zip(self._adam.param_groups, (1.0, _FACTORS), strict=True):
            group["lr"] = rate * share
        self._adam.step()
        self._steps.clamp_(self._low - _HALF, self._high + _HALF)
        # As far as it may be, half a level rounds to no other.
        self._levels = torch.round(self._steps)

    def packed(self) -> Packed:
        """What has been learned, as MatMulNBits reads it."""
        levels = (self._levels - self._low).to(torch.uint8).numpy()
        zeros = zero_points_of(self._start, self.form.bits) if self._start.zeros is not None else None
        columns = np.ascontiguousarray(levels.reshape(-1, self.form.block).T)
        return pack_levels(columns, self._scales()[..., 0].numpy(), self.form.bits, zeros)
