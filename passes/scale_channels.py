"""scale-channels: weights of channels that matter are made larger, so that rounding them loses less."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from graphopt.calibrate import Stream
from graphopt.ir import InMemory, LazyTensor, Scaled, has_data, lazy
from graphopt.pipeline import Context, Contract, Edit, Edits, Level, NearMiss, Nodes, OpsetRange, Pass

from ._channel_factors import steps_for
from ._columns import Columns, again, columns_of
from ._products import Product, products_of, used_elsewhere
from ._scale_search import factors_of

Floats = NDArray[np.float32]

_NORMS = ("LayerNormalization", "RMSNormalization")


class ScaleChannels(Pass):
    """What a product reads is divided by a factor for each channel, and its weight is multiplied by it.

    Before: y = MatMul(RMSNormalization(x, g), W); or y = MatMul(Mul(gate, MatMul(x, U) + b), W)
    After:  y = MatMul(RMSNormalization(x, g / s), diag(s) W); or U / s, b / s and diag(s) W
    The same arithmetic; but rounded in blocks, weights of channels that are large on real text lose less
    (AWQ, Lin et al. 2023, arXiv 2306.00978). All products behind one norm share s. Tried are
    s = mean|x|^a and mean|x|^a / mean|W|^(1-a), a = 0.05 .. 1, each channel's to a ninth part; the squared
    error of the products, their weights rounded to nearest, decides on sampled rows. They are decisions, and
    replayed from a lock.
    Refuses: what something else reads, too; weights that are used elsewhere, as a table that the head shares
    is; factors that do not lower the error on other rows by a hundredth; without real inputs, unless `by` is
    "weights".
    """

    name: ClassVar[str] = "scale-channels"
    level: ClassVar[Level] = Level.COMPRESS
    contract: ClassVar[Contract] = Contract.reassociates()
    opsets: ClassVar[OpsetRange] = OpsetRange(17, None)
    main_graph_only: ClassVar[bool] = True
    idempotent: ClassVar[bool] = False

    @dataclass(frozen=True)
    class Options:
        """bits and block_size: the form that weights are rounded to on trial, where plan-bits has decided
        nothing for one; by: real activations, or the weights alone, which takes no data and gains less.
        """

        bits: Literal[2, 4, 8] = 4
        block_size: Literal[16, 32, 64, 128, 256] = 128
        by: Literal["activations", "weights"] = "activations"

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        stream: Stream | str | None = None
        for node in list(graph):
            group = _behind_norm(node) if node.op_type in _NORMS else _behind_gate(node)
            if group is None:
                continue
            where = node.name or node.op_type
            reason = group if isinstance(group, str) else used_elsewhere(group.products)
            if reason is not None:
                yield NearMiss(where, reason)
                continue
            assert isinstance(group, _Group)
            key = f"{self.name}: {', '.join(p.matrix.name for p in group.products)}"
            if key not in context.decisions and self.options.by == "activations":
                stream = stream or context.stream()
                if isinstance(stream, str):
                    yield NearMiss(where, stream)
                    continue
            form = (self.options.bits, self.options.block_size)
            steps = context.decide(key, partial(steps_for, group.products, group.x, form, stream, context))
            if steps is None:
                yield NearMiss(where, "no factors lower the error of the products behind it")
                continue
            yield group.edit(factors_of(steps))


@dataclass(frozen=True)
class _Group:
    """Products of one value `x` of `width` channels, and the edit that divides these by factors."""

    x: ir.Value
    products: Sequence[Product]
    edit: Callable[[Floats], Edit]

    @property
    def width(self) -> int:
        return self.products[0].rows.shape[1]


def _behind_norm(norm: ir.Node) -> _Group | str | None:
    products = products_of(norm.outputs[0])
    if isinstance(products, str):
        return products
    factors = [value for value in norm.inputs[1:] if value is not None]
    if any(_vector(value) is None for value in factors):
        return "its gain is no constant vector of float32"
    if norm.attributes.get_int("axis", -1) not in (-1, len(norm.outputs[0].shape or ()) - 1):
        return "it is over other axes than the last"

    def edit(s: Floats) -> Edit:
        make = Nodes(norm.name or "norm")
        changed = [_divided(make, value, s) for value in factors]
        (x,) = make.copy(norm, [norm.inputs[0], *changed], "scaled")[:1]
        x.shape = norm.outputs[0].shape
        return _edit(make, [norm], x, products, s, {}, norm)

    return _Group(norm.outputs[0], products, edit)


def _behind_gate(node: ir.Node) -> _Group | str | None:
    """Products of a product of two values, one of which is x U + b."""
    if node.domain != "" or node.op_type != "Mul":
        return None
    products = products_of(node.outputs[0])
    found = [columns_of(value) for value in node.inputs]
    columns = next((made for made in reversed(found) if isinstance(made, Columns)), None)
    if isinstance(products, str) or columns is None:
        return None if isinstance(products, str) else str(found[-1])
    width = products[0].rows.shape[1]
    if columns.stop - columns.start != width:
        return "the values that are multiplied are of different widths"

    def edit(s: Floats) -> Edit:
        make = Nodes(node.name or "gate")
        made = again([columns], make, lambda expr: Scaled(expr, InMemory(1 / s), 0), "scaled")
        inputs = [made.get(value, value) if value is not None else None for value in node.inputs]
        (x,) = make.copy(node, inputs, "scaled")
        x.shape = node.outputs[0].shape
        others = {old: new for old, new in made.items() if old is not columns.value}
        return _edit(make, [*columns.removed, node], x, products, s, others, node)

    return _Group(node.outputs[0], products, edit)


def _edit(
    make: Nodes,
    removed: Sequence[ir.Node],
    x: ir.Value,
    products: Sequence[Product],
    s: Floats,
    others: dict[ir.Value, ir.Value],
    before: ir.Node,
) -> Edit:
    """Products of `x`, their weights multiplied by `s`."""
    scaled = {p.output: p.again(make, x, Scaled(p.rows, InMemory(s), 1), "scaled") for p in products}
    return Edit(
        f"{len(s)} channels scaled, by {s.min():.2g} to {s.max():.2g}",
        remove=list(dict.fromkeys([*removed, *(node for p in products for node in p.removed)])),
        insert=make.nodes,
        initializers=make.initializers,
        replace=others | scaled,
        before=before,
    )


def _vector(value: ir.Value) -> ir.TensorProtocol | None:
    tensor = None if value.is_graph_input() else value.const_value
    if tensor is None or tensor.dtype != ir.DataType.FLOAT or not has_data(tensor):
        return None
    return tensor if len(tensor.shape) == 1 else None


def _divided(make: Nodes, value: ir.Value, s: Floats) -> ir.Value:
    tensor = _vector(value)
    assert tensor is not None
    return make.weight(LazyTensor(Scaled(lazy(tensor), InMemory(1 / s), 0)), f"{value.name}~scaled")
