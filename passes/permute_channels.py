"""permute-channels: hidden channels in an order in which blocks of a weight hold entries of like size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from graphopt.calibrate import Stream
from graphopt.ir import InMemory, Taken, consumers, is_output, scalar_of, tiles
from graphopt.pipeline import Context, Contract, Edit, Edits, Level, NearMiss, Nodes, Pass

from ._columns import Columns, again, columns_of
from ._products import Product, products_of, used_elsewhere

_ELEMENTWISE = frozenset(
    {
        "Abs",
        "Add",
        "Div",
        "Erf",
        "Gelu",
        "Mul",
        "Neg",
        "Pow",
        "Relu",
        "Sigmoid",
        "Softplus",
        "Sub",
        "Swish",
        "Tanh",
    }
)


class PermuteChannels(Pass):
    """The channels between products are put in order of size, in all weights that they run through.

    Before: y = MatMul(act(MatMul(x, G)) * MatMul(x, U), W); one branch or two, packed or not, with biases
    After:  the same with the columns of G and U and the rows of W, K of them, in another order
    Blocks run along K: in order of the largest entry of each channel of W, a block's scale is made for
    entries that are all about as large. Or in order of the mean square of what is read, the largest first:
    the order in which GPTQ rounds (Frantar et al. 2022, arXiv 2210.17323, "act-order"), so that no gather is
    needed. It is a decision, replayed from a lock.
    Refuses: what something else reads, too; what no products make, through functions of single elements;
    weights that are used elsewhere; channels that are in order already; without real inputs, unless `by` is
    "weights".
    """

    name: ClassVar[str] = "permute-channels"
    level: ClassVar[Level] = Level.COMPRESS
    contract: ClassVar[Contract] = Contract.reassociates()
    main_graph_only: ClassVar[bool] = True

    @dataclass(frozen=True)
    class Options:
        """by: the order is of the mean square of real activations, or of the weights' largest entries."""

        by: Literal["activations", "weights"] = "weights"

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        stream: Stream | str | None = None
        for node in list(graph):
            hidden = _hidden(node) if node.domain == "" and node.op_type in _ELEMENTWISE else None
            if hidden is None:
                continue
            where = node.name or node.op_type
            if isinstance(hidden, str):
                yield NearMiss(where, hidden)
                continue
            key = f"{self.name}: {', '.join(p.matrix.name for p in hidden.readers)}"
            if key not in context.decisions and self.options.by == "activations":
                stream = stream or context.stream()
                if isinstance(stream, str):
                    yield NearMiss(where, stream)
                    continue
            order = context.decide(key, partial(_order, hidden, stream))
            if order == sorted(order):
                yield NearMiss(where, "its channels are in order already")
                continue
            yield _permuted(hidden, np.asarray(order, np.int64))


@dataclass(frozen=True)
class _Hidden:
    """`value` is made by `nodes`, in graph order, of `parts` of products, and `readers` read it."""

    value: ir.Value
    nodes: Sequence[ir.Node]
    parts: Sequence[Columns]
    readers: Sequence[Product]


def _hidden(last: ir.Node) -> _Hidden | str | None:
    value = last.outputs[0]
    readers = products_of(value)
    if isinstance(readers, str):
        return None
    nodes, leaves = _function(last)
    found = [columns_of(leaf, nodes) for leaf in leaves]
    reasons = [made for made in found if isinstance(made, str)]
    for node in nodes:
        if node is not last and (is_output(node.outputs[0]) or set(consumers(node.outputs[0])) - set(nodes)):
            reasons.append(f"{node.outputs[0].name!r} is for others, too")
    parts = [made for made in found if isinstance(made, Columns)]
    width = readers[0].rows.shape[1]
    if not reasons and any(part.stop - part.start != width for part in parts):
        reasons.append("the values it is made of are of different widths")
    reason = next(iter(reasons), None) or used_elsewhere([*readers, *(part.product for part in parts)])
    return reason or _Hidden(value, nodes, parts, readers)


def _function(last: ir.Node) -> tuple[list[ir.Node], list[ir.Value | None]]:
    """The nodes up to `last` that work on single elements, in order, and the values that they begin with."""
    nodes: dict[ir.Node, None] = {}
    leaves: dict[ir.Value | None, None] = {}

    def visit(node: ir.Node) -> None:
        for value in node.inputs:
            if scalar_of(value) is not None:
                continue
            made = value.producer() if value is not None else None
            biased = made is not None and isinstance(columns_of(value, _Anyone()), Columns)
            if made is None or made.op_type not in _ELEMENTWISE or made.domain != "" or biased:
                leaves[value] = None
            elif made not in nodes:
                visit(made)
        nodes[node] = None

    visit(last)
    return list(nodes), list(leaves)


class _Anyone:
    """Holds every node."""

    def __contains__(self, node: object) -> bool:
        return True


def _order(hidden: _Hidden, stream: Stream | str | None) -> list[int]:
    """Channels, the largest first."""
    width = hidden.readers[0].rows.shape[1]
    size = np.zeros(width, np.float64)
    if isinstance(stream, Stream):
        for (array,) in stream.values([hidden.value]):
            size += np.square(array.reshape(-1, width), dtype=np.float64).sum(0)
    else:
        for product in hidden.readers:
            for _, tile in tiles(product.rows):
                np.maximum(size, np.abs(tile).max(0), out=size)
    return [int(place) for place in np.argsort(-size, kind="stable")]


def _permuted(hidden: _Hidden, order: NDArray[np.int64]) -> Edit:
    last = hidden.nodes[-1]
    make, places = Nodes(last.name or "hidden"), InMemory(order)
    made: dict[ir.Value, ir.Value] = {}
    for node in dict.fromkeys(part.product.node for part in hidden.parts):
        own = [part for part in hidden.parts if part.product.node is node]
        made |= again(own, make, lambda expr: Taken(expr, places, 0), "permuted")
    inner = {part.value for part in hidden.parts}
    replace = {old: new for old, new in made.items() if old not in inner}
    for node in hidden.nodes:
        inputs = [made.get(value, value) if value is not None else None for value in node.inputs]
        (result,) = make.copy(node, inputs, f"{node.name}/permuted")
        result.shape = node.outputs[0].shape
        made[node.outputs[0]] = result
    for product in hidden.readers:
        rows = Taken(product.rows, places, 1)
        replace[product.output] = product.again(make, made[hidden.value], rows, "permuted")
    removed = [*(n for part in hidden.parts for n in part.removed), *hidden.nodes]
    removed += [node for product in hidden.readers for node in product.removed]
    return Edit(
        f"{len(order)} channels in another order",
        remove=list(dict.fromkeys(removed)),
        insert=make.nodes,
        initializers=make.initializers,
        replace=replace,
        before=last,
    )
