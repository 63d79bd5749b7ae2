"""Columns of a product: what makes a value, however many projections were packed into one."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphopt.ir import (
    Concatenated,
    Expr,
    LazyTensor,
    Sliced,
    const_of,
    consumers,
    has_data,
    is_output,
    lazy,
    only_user,
    producer,
    static_dim,
)
from graphopt.pipeline import Nodes

from ._products import Product, product_of

__all__ = ["Columns", "again", "columns_of"]

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


def again(parts: Sequence[Columns], make: Nodes, change: Change, what: str) -> dict[ir.Value, ir.Value]:
    """`parts` of one product with other weights: what takes the place of its results, theirs among them."""
    first = parts[0]
    product, bias = first.product, first.bias or first.product.matrix.bias
    if bias is not None:
        assert bias.const_value is not None
        changed = LazyTensor(_changed(lazy(bias.const_value), parts, change))
        bias = make.weight(changed, f"{bias.name}~{what}")
    y = product.again(make, product.matrix.x, _changed(product.rows, parts, change), what, bias=bias)
    if first.split is None:
        return {first.value: y}
    results = make.many(
        "Split",
        [y, make.constant(_sizes(first.split), np.int64, f"{first.split.name}/{what}-widths")],
        f"{first.split.name}/{what}",
        list(first.split.outputs),
        axis=-1,
    )
    return dict(zip(first.split.outputs, results, strict=True))


def _changed(expr: Expr, parts: Sequence[Columns], change: Change) -> Expr:
    """`change` of the rows of each of `parts`, and the others as they are."""
    pieces: list[Expr] = []
    end = 0
    for part in sorted(parts, key=lambda p: p.start):
        if end < part.start:
            pieces.append(Sliced(expr, 0, end, part.start))
        pieces.append(change(Sliced(expr, 0, part.start, part.stop)))
        end = part.stop
    if end < expr.shape[0]:
        pieces.append(Sliced(expr, 0, end, expr.shape[0]))
    return Concatenated(tuple(pieces), 0)


def columns_of(value: ir.Value | None, readers: Container[ir.Node] | None = None) -> Columns | str:
    """What makes `value`, which `readers` alone read (some node, if none are given), or why to let it be."""
    if value is None or is_output(value) or not _is_for(value, readers):
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


def _is_for(value: ir.Value, readers: Container[ir.Node] | None) -> bool:
    if readers is None:
        return only_user(value) is not None
    return all(user in readers for user in consumers(value))


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
