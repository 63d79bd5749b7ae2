"""GPTQ: rounding a weight column by column, what each is off by made up for in the columns that follow.

Frantar et al. 2022 (arXiv 2210.17323), in the form of LDLQ (Chee et al. 2023, arXiv 2307.13304), which
rounds to the same numbers with one triangular factor and no inverse.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from graphopt.ir import Expr
from graphopt.pipeline import map_tiles

from ._forms import Form
from ._nbits import Packed, concatenated, levels_of, pack_levels, quantize_rows, zero_points_of

__all__ = ["LEAST_DAMPING", "Hessian", "fewest_rows", "rounded", "rounded_outputs", "rounded_tiles"]

Floats = NDArray[np.float32]

LEAST_DAMPING = 0.01
"""Of the mean of a Hessian's diagonal, what GPTQ adds to all of it."""
_COLUMNS_A_ROW = 4
"""Of a weight, at most: from fewer rows GPTQ learns these rows more than the model. A judgement."""
_STEPS = 4  # of damping, each ten times the one before
_ROWS = 1024  # of a weight at once: enough for products at full speed
_COLUMNS = 128  # whose feedback is summed up at once
_PANEL = 256  # columns whose slopes are: products of 32 take 1.6 times as long
_SMALLEST = np.float32(1e-37)  # of scales: see _nbits
_MIDDLE = np.float32(128)  # the level that stands for zero among those of 8 bits


def fewest_rows(width: int) -> int:
    """Of activations, for a weight of `width` columns to be rounded by them."""
    return max(4, -(-width // _COLUMNS_A_ROW))


@dataclass(frozen=True)
class Hessian:
    """What x is like that a weight is multiplied by, for columns 0 to K.

    `matrix` float32 [K, K] is the mean of x^T x, in units of its mean diagonal, with `damping` added to the
    diagonal; `order` are its columns by falling diagonal, and `factor` the unit upper triangle U of U D U^T,
    which it is with columns in this order. `held_out` is the same as `matrix`, undamped, of calls that it has
    not seen.
    """

    matrix: Floats
    factor: Floats
    order: NDArray[np.intp]
    damping: float
    held_out: Floats

    @classmethod
    def of(
        cls,
        gram: Floats,
        held_out: Floats,
        say: Callable[[str], None],
        least_damping: float = LEAST_DAMPING,
    ) -> Hessian | None:
        """From matrices of any scale, with the least damping that makes `gram` positive definite.

        Each step of it is said; None, which is said too, where none does.
        """
        return cls.taking(gram.copy(), held_out.copy(), say, least_damping)

    @classmethod
    def taking(
        cls,
        matrix: Floats,
        held_out: Floats,
        say: Callable[[str], None],
        least_damping: float = LEAST_DAMPING,
    ) -> Hessian | None:
        """`of` these, which are two matrices and become its own: of 8,192 columns each is 256 MiB."""
        for one in (matrix, held_out):
            one /= np.float32(max(one.diagonal().mean(), _SMALLEST))
        diagonal = matrix.diagonal().copy()
        order = np.argsort(-diagonal, kind="stable")
        for damping in (least_damping * 10**step for step in range(_STEPS)):
            np.fill_diagonal(matrix, diagonal + np.float32(damping))
            factor = _unit_upper(matrix[np.ix_(order[::-1], order[::-1])])
            if factor is not None:
                return cls(matrix, factor, order, damping, held_out)
            say(f"its activations' Gram matrix is not positive definite with a damping of {damping}")
        say("no damping makes it so: rounded to nearest")
        return None


def _unit_upper(turned: Floats) -> Floats | None:
    """U of U D U^T, which is symmetric and comes `turned`: its last row and column first.

    None where it is not positive definite. `turned` is overwritten: of 8,192 columns each copy is 256 MiB.
    """
    import scipy.linalg

    try:
        with threadpool_limits(1, "blas"):  # sums depend on how many there are
            lower = scipy.linalg.cholesky(turned.T, lower=True, overwrite_a=True, check_finite=False)
    except scipy.linalg.LinAlgError:
        return None
    upper = lower[::-1, ::-1]
    diagonal = upper.diagonal()
    if not np.isfinite(diagonal).all() or not (diagonal > 0).all():
        return None
    unit: Floats = np.divide(upper, diagonal, out=np.empty(upper.shape, np.float32))
    return unit


def rounded(rows: Floats, form: Form, hessian: Hessian, sweeps: int) -> Packed:
    """float32 [n, K] in `form`, each row as it makes x W^T least wrong.

    Scales and zero points come first (static groups), by least squares weighted by the Hessian's diagonal,
    so the order of columns leaves no trace in what is stored. After GPTQ, `sweeps` of coordinate descent go
    over all columns and then scales. A row stays rounded to nearest where its result is not better than that
    on calls held out, and on those seen.
    """
    bits, width = form.bits, rows.shape[1]
    nearest = quantize_rows(rows, bits, form.block, zeros=form.zeros)
    if form.zeros or bits < 8:
        start = quantize_rows(
            rows,
            bits,
            form.block,
            zeros=form.zeros,
            importance=np.ascontiguousarray(hessian.matrix.diagonal()),
        )
    else:
        start = nearest
    grid = _Grid.of(start, form, width)
    weight = np.ascontiguousarray(rows.T)
    _feed_back(grid, weight, hessian)
    for _ in range(sweeps):
        _descend(grid, weight, hessian.matrix)
    return _better_rows(weight, nearest, grid, hessian)


def rounded_tiles(rows: Expr, form: Form, hessian: Hessian, sweeps: int) -> Packed:
    """`rounded` of all of `rows` [N, K], some at a time, the same on any number of threads."""
    with threadpool_limits(1, "blas"):
        parts = map_tiles(
            rows, lambda tile: rounded(tile, form, hessian, sweeps), max_bytes=_ROWS * rows.shape[1] * 4
        )
        return concatenated(list(parts))


def rounded_outputs(rows: Floats, scales: Floats, hessian: Hessian) -> NDArray[np.int8]:
    """float32 [n, K] in int8 of one given scale for each row, as it makes x W^T least wrong.

    A row stays rounded to nearest as in `rounded`.
    """
    width = rows.shape[1]
    weight = np.ascontiguousarray(rows.T)
    middle = np.full((1, len(rows)), _MIDDLE, np.float32)
    grid = _Grid(np.empty_like(weight), scales[None], middle, Form(8, width))
    with threadpool_limits(1, "blas"):
        _feed_back(grid, weight, hessian)
        nearest = np.clip(np.rint(weight / scales) + _MIDDLE, 1, grid.top)
        better = _is_better(grid.off(weight), weight - (nearest - _MIDDLE) * scales, hessian)
    levels = np.where(better, grid.levels, nearest) - _MIDDLE
    return np.ascontiguousarray(levels.T.astype(np.int8))


class _Grid:
    """Levels of a weight, its columns along axis 0: float32 [K, n]; scales and zeros are [blocks, n]."""

    def __init__(self, levels: Floats, scales: Floats, zeros: Floats, form: Form) -> None:
        self.levels, self.scales, self.zeros, self.form = levels, scales, zeros, form
        self.top = np.float32((1 << form.bits) - 1)

    @classmethod
    def of(cls, packed: Packed, form: Form, width: int) -> _Grid:
        levels = levels_of(packed, form.bits).reshape(len(packed.scales), -1)[:, :width]
        zeros = zero_points_of(packed, form.bits)
        return cls(
            np.ascontiguousarray(levels.T, dtype=np.float32),
            packed.scales.T.copy(order="C"),  # changed as it is fitted
            np.ascontiguousarray(zeros.T, dtype=np.float32),
            form,
        )

    def packed(self) -> Packed:
        (width, count), (blocks, _) = self.levels.shape, self.scales.shape
        # What fills the last block stands for zero.
        missing = np.repeat(self.zeros[-1:], blocks * self.form.block - width, axis=0)
        levels = np.concatenate([self.levels, missing]).astype(np.uint8)
        levels = (
            levels.reshape(blocks, self.form.block, count).transpose(1, 2, 0).reshape(self.form.block, -1)
        )
        zeros = np.ascontiguousarray(self.zeros.T, dtype=np.uint8) if self.form.zeros else None
        return pack_levels(levels, np.ascontiguousarray(self.scales.T), self.form.bits, zeros)

    def round(self, column: int, value: Floats, inverse: Floats) -> Floats:
        """Set the levels of `column` to those nearest to `value`, and give what they stand for."""
        block = column // self.form.block
        levels = self.levels[column]
        np.multiply(value, inverse[block], out=levels)
        levels += self.zeros[block]
        np.rint(levels, out=levels)
        np.clip(levels, 0, self.top, out=levels)
        stands_for: Floats = (levels - self.zeros[block]) * self.scales[block]
        return stands_for

    def inverse(self) -> Floats:
        """1 / scales; 0 where there is none."""
        inverse: Floats = np.zeros_like(self.scales)
        np.divide(np.float32(1), self.scales, out=inverse, where=np.abs(self.scales) > _SMALLEST)
        return inverse

    def steps(self, block: int) -> Floats:
        """Levels less zero points of the columns of `block`."""
        size = self.form.block
        steps: Floats = self.levels[block * size : (block + 1) * size] - self.zeros[block]
        return steps

    def off(self, weight: Floats) -> Floats:
        """`weight` [K, n] less what the levels stand for."""
        size = self.form.block
        off = weight.copy()
        for block in range(len(self.scales)):
            off[block * size : (block + 1) * size] -= self.steps(block) * self.scales[block]
        return off


def _feed_back(grid: _Grid, weight: Floats, hessian: Hessian) -> None:
    """Round the columns of `weight` [K, n] in the Hessian's order."""
    width, order, factor, inverse = len(weight), hessian.order, hessian.factor, grid.inverse()
    off = np.empty_like(weight)
    for start in range(0, width, _COLUMNS):
        end = min(start + _COLUMNS, width)
        targets = weight[order[start:end]]
        if start:
            targets += factor[:start, start:end].T @ off[:start]
        for k in range(start, end):
            target = targets[k - start]
            if k > start:
                target += factor[start:k, k] @ off[start:k]
            column = order[k]
            off[k] = weight[column] - grid.round(int(column), target, inverse)


def _descend(grid: _Grid, weight: Floats, matrix: Floats) -> None:
    """Round each column anew with all others as they are, then fit the scale of each block."""
    width, size = len(weight), grid.form.block
    off, inverse = grid.off(weight), grid.inverse()
    panel = max(1, _PANEL // size) * size
    for start in range(0, width, panel):
        end = min(start + panel, width)
        slopes = matrix[start:end] @ off
        for first in range(start, end, size):
            last = min(first + size, end)
            columns = slice(first, last)
            before = off[columns].copy()
            _descend_block(grid, weight, off, inverse, columns, slopes[first - start : last - start], matrix)
            # What this block moved, the panel's others have not seen.
            slopes[last - start :] += matrix[last:end, columns] @ (off[columns] - before)


def _descend_block(
    grid: _Grid,
    weight: Floats,
    off: Floats,
    inverse: Floats,
    columns: slice,
    slope: Floats,
    matrix: Floats,
) -> None:
    """`_descend` for one block, of which `slope` is `matrix` @ `off`: it changes with `off`."""
    from scipy.linalg.blas import sger

    inner, block = matrix[columns, columns], columns.start // grid.form.block
    for k, column in enumerate(range(columns.start, columns.stop)):
        before = weight[column] - off[column]
        stands_for = grid.round(column, before + slope[k] / inner[k, k], inverse)
        moved = stands_for - before
        off[column] -= moved
        sger(-1, moved, inner[k], a=slope.T, overwrite_a=True)  # in place, and nothing between
    steps = grid.steps(block)
    along = np.einsum("kn,kn->n", steps, slope)
    square = np.einsum("kn,kn->n", steps, inner @ steps)
    change = np.divide(along, square, out=np.zeros_like(along), where=square > _SMALLEST)
    off[columns] -= steps * change
    grid.scales[block] += change


def _better_rows(weight: Floats, nearest: Packed, grid: _Grid, hessian: Hessian) -> Packed:
    """The rows of `grid`, but for those that `nearest` is better for."""
    found = grid.packed()
    better = _is_better(grid.off(weight), _Grid.of(nearest, grid.form, len(weight)).off(weight), hessian)
    zeros = found.zeros
    if zeros is not None and nearest.zeros is not None:
        zeros = np.where(better[:, None], zeros, nearest.zeros)
    return Packed(
        np.where(better[:, None, None], found.weight, nearest.weight),
        np.where(better[:, None], found.scales, nearest.scales),
        zeros,
    )


def _is_better(one: Floats, other: Floats, hessian: Hessian) -> NDArray[np.bool_]:
    """Of each column, whether errors `one` [K, n] do less than `other`, which is overwritten."""
    change, both = one - other, other
    both += one
    better = np.ones(one.shape[1], bool)
    for matrix in (hessian.held_out, hessian.matrix):
        # What errors differ by, a^T H a - b^T H b, as (a - b)^T H (a + b): half the work.
        better &= np.einsum("kn,kn->n", change, matrix @ both) < 0
    return better
