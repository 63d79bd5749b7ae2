"""How a weight is rounded, for those that try forms of it: as quantize-weights will."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from graphopt.ir import Expr

from ._calibrated import Hessians
from ._forms import Form
from ._gptq import LEAST_DAMPING, Hessian, rounded, rounded_tiles
from ._nbits import Packed, concatenated, quantize_rows, quantized_tiles
from ._units import Site

__all__ = ["OF_TABLES", "Method", "Rounding", "SiteRounding"]

Floats = NDArray[np.float32]
Method = Literal["nearest", "gptq", "learned"]
OF_TABLES = 0.5
"""Damping of a weight that rows are looked up in, too, where all columns count alike."""


@dataclass(frozen=True)
class SiteRounding:
    """How the weight of a site is rounded: by GPTQ with the `hessian` of what it is multiplied by, to nearest
    without one.
    """

    rows: Expr
    hessian: Hessian | None
    sweeps: int

    def whole(self, form: Form) -> Packed:
        """All of its rows."""
        if self.hessian is None:
            return concatenated(list(quantized_tiles(self.rows, form)))
        return rounded_tiles(self.rows, form, self.hessian, self.sweeps)

    def of(self, rows: Floats, form: Form) -> Packed:
        """Some of its rows [n, K]."""
        if self.hessian is None:
            return quantize_rows(rows, form.bits, form.block, zeros=form.zeros)
        return rounded(rows, form, self.hessian, self.sweeps)


class Rounding:
    """How weights of a graph are rounded, asked for in its order.

    `collect` gives Hessians from the start of the graph on, None: weights are rounded to nearest. `tables`
    says what weights that rows are looked up in are multiplied by, too. Learned rounding begins with GPTQ's,
    and is estimated by it.
    """

    def __init__(
        self, collect: Callable[[], Hessians] | None, sweeps: int, tables: Mapping[Hashable, ir.Value]
    ) -> None:
        self._sweeps = sweeps
        self._hessians = None if collect is None else collect()
        # A table is looked up before anything is multiplied by it: that takes a stream of its own.
        self._of_tables = {
            key: None if collect is None else collect().of(x, OF_TABLES) for key, x in tables.items()
        }

    def at(self, site: Site) -> SiteRounding:
        """How the weight of `site` is rounded."""
        key = site.rows.identity
        hessian = None
        if key in self._of_tables:
            hessian = self._of_tables[key]
        elif self._hessians is not None and not site.is_lookup:
            hessian = self._hessians.of(site.x, LEAST_DAMPING)
        return SiteRounding(site.rows, hessian, self._sweeps)
