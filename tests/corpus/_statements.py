"""What a generated graph is made of: each adds nodes and a value, or nothing where no value fits."""

from __future__ import annotations

from collections.abc import Callable

from tests.corpus._floats import (
    attention,
    binary,
    by_constant,
    clip,
    divided,
    gelu,
    gemm,
    layer_norm,
    positive,
    power,
    product,
    reduced,
    rms_norm,
    silu,
    softmax,
    spread,
    unary,
)
from tests.corpus._integers import (
    as_float,
    best,
    compared,
    logic,
    looked_up,
    masked,
    rounded,
    summed,
    where,
    whole,
)
from tests.corpus._layout import (
    chosen,
    expanded,
    filled,
    padded,
    positions,
    reshaped,
    shortened,
    sliced,
    tiled,
    transposed,
    triangle,
)
from tests.corpus._needless import folded, noop, repeated
from tests.corpus._program import Value, _Builder
from tests.corpus._subgraphs import branch, called, loop, scan

__all__ = ["STATEMENTS"]

Statement = Callable[[_Builder], Value | None]

STATEMENTS: tuple[Statement, ...] = (
    *(
        unary,
        unary,
        binary,
        binary,
        positive,
        power,
        clip,
        divided,
        by_constant,
        by_constant,
        spread,
        reduced,
    ),
    *(
        softmax,
        layer_norm,
        rms_norm,
        gelu,
        silu,
        product,
        product,
        gemm,
        attention,
        attention,
        compared,
        logic,
    ),
    *(
        where,
        masked,
        whole,
        rounded,
        as_float,
        looked_up,
        summed,
        best,
        transposed,
        reshaped,
        reshaped,
        expanded,
    ),
    *(filled, positions, sliced, shortened, chosen, padded, tiled, triangle, branch, loop, scan, called),
    *(repeated, folded, noop, noop),
)
