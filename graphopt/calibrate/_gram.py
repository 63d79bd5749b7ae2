"""The Gram matrix of activations: what rounding a weight costs, whichever way it is rounded."""

from __future__ import annotations

import functools
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphopt.calibrate._rows import as_rows
from graphopt.runtime import default_threads, session_of

__all__ = ["Gram"]

_PANEL = 512
"""Columns of a piece of the matrix: large enough for the full speed of a product, small enough that a wide
matrix has pieces for every thread."""
_BATCH = 512
"""Rows that are waited for: a product of fewer costs as much as adding its result."""


class Gram:
    """The sum of x^T x over the rows x of activations [..., k]; half of GPTQ's Hessian (Frantar et al. 2022).

    Products are in float32, each piece of the matrix by one thread: the same on any number of them. Of
    8,192 columns the matrix takes 256 MiB.
    """

    def __init__(self, k: int) -> None:
        self.k = k
        self.rows = 0
        """How many rows were added."""
        self._sum = np.zeros((k, k), np.float32)
        self._waiting: list[NDArray[np.float32]] = []
        self._count = 0

    def add(self, array: NDArray[Any]) -> None:
        """Count the rows of `array` [..., k] too."""
        rows = as_rows(array, self.k)
        self.rows += len(rows)
        self._waiting.append(rows)
        self._count += len(rows)
        if self._count >= _BATCH:
            self._multiply()

    @property
    def matrix(self) -> NDArray[np.float32]:
        """float32 [k, k], symmetric. It is no copy: it grows with what is added later."""
        if self._count:
            self._multiply()
        for start in range(0, self.k, _PANEL):
            end = start + _PANEL
            self._sum[end:, start:end] = self._sum[start:end, end:].T
        return self._sum

    def _multiply(self) -> None:
        rows = np.concatenate(self._waiting)
        self._waiting, self._count = [], 0
        starts = range(0, self.k, _PANEL)
        panels = {start: np.ascontiguousarray(rows[:, start : start + _PANEL]) for start in starts}
        product = _product()

        def add(place: tuple[int, int]) -> None:
            top, left = place
            (made,) = product.run(None, {"a": panels[top], "b": panels[left]})
            self._sum[top : top + _PANEL, left : left + _PANEL] += made

        with ThreadPoolExecutor(default_threads()) as pool:
            list(pool.map(add, [(top, left) for top in starts for left in starts if left >= top]))


@functools.cache
def _product() -> Any:
    """a^T b on the thread that calls: numpy's sums depend on how many threads it takes."""
    import onnx.parser

    model = onnx.parser.parse_model("""
        <ir_version: 10, opset_import: ["" : 21, "com.microsoft" : 1]>
        gram (float[R,M] a, float[R,N] b) => (float[M,N] y) {
            y = com.microsoft.FusedMatMul <transA = 1> (a, b)
        }
    """)
    return session_of(model.SerializeToString(), threads=1)
