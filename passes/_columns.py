"""Columns of a product: what makes a value, however many projections were packed into one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphopt.ir import (
    Concatenated,
    Expr,
    LazyTensor,
    Sliced,
    const_of,
    has_data,
    lazy,
    only_user,
    producer,
    static_dim,
)
from graphopt.pipeline import Nodes

from ._products import Product, product_of

__all__ = ["Columns", "columns_of"]

Change = Callable[[Expr], Expr]
"""Makes other rows of the first axis of its argument, as many."""


@dataclass(frozen=True)
class Columns:
    """`value` is columns `start`..`stop` of x W + b; `add` is there where b is, `split` where others are.

    Nothing else reads what lies between the product and `value`.
    """

    value: ir.Value
    product: Product
    add: ir.Node | None
    bias: ir.Value | None
    split: ir.Node | None
    start: int
    stop: int

    @property
    def rows(self) -> Expr:
        """The weight of `value` alone, float32 [stop - start, K]."""
        return Sliced(self.product.rows, 0, self.start, self.stop)

    @property
    def removed(self) -> tuple[ir.Node, ...]:
        return (*self.product.removed, *(node for node in (self.add, self.split) if node is not None))

    def again(self, make: Nodes, change: Change, what: str) -> dict[ir.Value, ir.Value]:
        """The same with other weights for `value`: what takes the place of it, and of the other parts."""
        product = self.product
        bias = self.bias or product.matrix.bias
        if bias is not None:
            assert bias.const_value is not None
            changed = LazyTensor(self._changed(lazy(bias.const_value), change))
            bias = make.weight(changed, f"{bias.name}~{what}")
        y = product.again(make, product.matrix.x, self._changed(product.rows, change), what, bias=bias)
        if self.split is None:
            return {self.value: y}
        parts = make.many(
            "Split",
            [y, make.constant(_sizes(self.split), np.int64, f"{self.split.name}/{what}-widths")],
            f"{self.split.name}/{what}",
            list(self.split.outputs),
            axis=-1,
        )
        return dict(zip(self.split.outputs, parts, strict=True))

    def _changed(self, expr: Expr, change: Change) -> Expr:
        size = expr.shape[0]
        parts = [change(Sliced(expr, 0, self.start, self.stop))]
        if self.start:
            parts.insert(0, Sliced(expr, 0, 0, self.start))
        if self.stop < size:
            parts.append(Sliced(expr, 0, self.stop, size))
        return Concatenated(tuple(parts), 0)


def columns_of(value: ir.Value | None) -> Columns | str:
    """What makes `value`, or why it is not to be changed."""
    if value is None or only_user(value) is None:
        return f"{None if value is None else value.name!r} is for others, too"
    split, start, stop = producer(value, "Split"), 0, static_dim(value, -1)
    if stop is None:
        return f"the width of {value.name!r} is unknown"
    packed = value
    if split is not None:
        sizes = _sizes(split)
        if sizes is None or split.inputs[0] is None:
            return f"Split {split.name!r} is over another axis than the last, or in parts of unknown size"
        start = sum(sizes[: split.outputs.index(value)])
        stop, packed = start + stop, split.inputs[0]
    add, bias = producer(packed, "Add"), None
    if add is not None:
        bias = next((v for v in add.inputs if _is_bias(v)), None)
        inner = next((v for v in add.inputs if v is not bias), None)
        if bias is None or inner is None:
            return f"{packed.name!r} is a sum of other things than a product and a bias"
        packed = inner
    product = product_of(packed.producer())
    if isinstance(product, str):
        return product
    held = product.matrix.bias
    if held is not None and not _is_bias(held):
        return f"the bias of {product.matrix.name} is no constant vector"
    between = [
        v for v in (packed, None if add is None else add.outputs[0]) if v is not None and v is not value
    ]
    if any(only_user(v) is None for v in between):
        return f"{packed.name!r} is for others, too"
    return Columns(value, product, add, bias, split, start, stop)


def _is_bias(value: ir.Value | None) -> bool:
    tensor = None if value is None or value.is_graph_input() else value.const_value
    if tensor is None or tensor.dtype != ir.DataType.FLOAT or not has_data(tensor):
        return False
    return len(tensor.shape) == 1


def _sizes(split: ir.Node) -> list[int] | None:
    """Of the parts along the last axis."""
    axis, rank = split.attributes.get_int("axis", 0), len(split.outputs[0].shape or ())
    if axis not in (-1, rank - 1):
        return None
    given = const_of(split.inputs[1]) if len(split.inputs) > 1 else None
    if given is not None:
        return [int(size) for size in np.asarray(given).ravel()]
    sizes = [static_dim(value, -1) for value in split.outputs]
    known = [size for size in sizes if size is not None]
    return known if len(known) == len(sizes) else None
