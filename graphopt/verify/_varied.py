"""Other contents for stored weights, for windows whose result may not depend on what the weights hold.

Such a window stands for all layers' (`graphopt.verify._cut`), so the weights of the first layer must not
decide: a bias that is zero there, a scale that is one.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, is_dataclass
from math import prod

import numpy as np

from graphopt.ir import Expr, FileRange, Region, full_region

__all__ = ["can_be_varied", "varied"]

# The largest prime below 2**16: no two rows of usual lengths, which are multiples of 8, have equal factors.
_TABLE = np.random.default_rng(0).uniform(0.25, 1, 65521).astype(np.float32)
_INSTEAD_OF_ZERO = 1e-2
"""Small beside usual weights, so that it drowns nothing, and large beside every tolerance."""


def can_be_varied(expr: Expr) -> bool:
    """Whether `varied` reaches all that `expr` is made of: expressions of plugins may be of any kind."""
    return is_dataclass(expr) and all(map(can_be_varied, expr.sources))


def varied(expr: Expr) -> Expr:
    """`expr` over floating-point file ranges with other, seeded numbers of the same signs and magnitudes."""
    if isinstance(expr, FileRange):
        return _Varied(expr) if expr.dtype.is_floating_point() and expr.dtype.bitwidth >= 16 else expr
    return expr.over(varied) if expr.sources else expr


@dataclass(frozen=True, eq=False)
class _Varied(Expr):
    """What `stored` holds, each element made smaller by a factor that its place in the file decides.

    So two ranges over the same bytes, however they are cut and joined, still agree. Zeros become small.
    """

    stored: FileRange

    def __post_init__(self) -> None:
        self.describe(self.stored.shape, self.stored.dtype)

    def _identity(self) -> tuple[Hashable, ...]:
        return ("varied", self.stored.identity)

    def read(self, region: Region | None = None) -> np.ndarray:
        array = self.stored.read(region)
        values = array.astype(np.float64 if array.itemsize == 8 else np.float32)
        factors = self._factors(full_region(self.shape) if region is None else region, array.itemsize)
        factors = factors.reshape(values.shape).astype(values.dtype)
        return np.where(values == 0, _INSTEAD_OF_ZERO * factors, values * factors).astype(array.dtype)

    def _factors(self, region: Region, itemsize: int) -> np.ndarray:
        """The factor of each element of a box, a row of its last axis at a time."""
        starts = np.asarray(self.stored.offset // itemsize)
        for axis, part in enumerate(region[:-1]):
            starts = starts[..., None] + np.arange(part.start, part.stop) * prod(self.shape[axis + 1 :])
        first, width = (region[-1].start, region[-1].stop - region[-1].start) if region else (0, 1)
        around = np.resize(_TABLE, len(_TABLE) + width)
        places = (starts.reshape(-1) + first) % len(_TABLE)
        made = np.empty((len(places), width), np.float32)
        for row, place in zip(made, places.tolist(), strict=True):
            row[:] = around[place : place + width]
        return made
