"""rotate: the residual stream in other coordinates, in which no channel stands out."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from graphopt.ir import LazyTensor, constant_table, initializer, lazy, only_user
from graphopt.pipeline import (
    Context,
    Contract,
    Edit,
    Edits,
    Level,
    NearMiss,
    Nodes,
    OpsetRange,
    Outcome,
    Pass,
)

from ._products import Product, product_of, products_of
from ._residual import Residual, Summand, is_vector, residuals
from ._rotations import Rotation, rotation


class Rotate(Pass):
    """The residual stream x [.., K] becomes x R, R orthogonal, with R folded into the weights around it.

    Before: x = Gather(E, ids); x = Add(x, MatMul(a, V)), many times; y = MatMul(RMSNormalization(x, 1), W)
    After:  the same with E R, V R and R^T W; a norm without gain turns with its input, and R R^T = 1
    Channels that are much larger than the rest spread over all, so that blocks are rounded better (QuaRot,
    Ashkboos et al. 2024, arXiv 2404.00456; R1 of SpinQuant, Liu et al. 2024, arXiv 2405.16406). R is a
    randomized Hadamard matrix where one of the size is known. It goes through the graph from the embedding
    on: each edit moves the product by R^T past one norm or sum, so that each is small enough to be run. What
    is added up is turned with its bias and its factor. A table that the head shares stays one table. The
    package computes nothing that it did not before.
    Refuses, for a whole stream: norms with a gain (absorb-gains takes it away) or a shift; what else reads
    it, as experts do; a stream that is an output; what is added to it that is no product by a constant, as
    norms behind products (Gemma 2) are.
    """

    name: ClassVar[str] = "rotate"
    level: ClassVar[Level] = Level.COMPRESS
    contract: ClassVar[Contract] = Contract.reassociates()
    opsets: ClassVar[OpsetRange] = OpsetRange(23, None)
    main_graph_only: ClassVar[bool] = True
    idempotent: ClassVar[bool] = False

    @dataclass(frozen=True)
    class Options:
        """seed: of the signs of R."""

        seed: int = 0

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        for found in list(residuals(graph)):
            if isinstance(found, NearMiss):
                yield found
                continue
            yield from _Turning(found, rotation(found.width, self.options.seed)).edits()


class _Turning:
    """The edits of one stream. Each ends in x = MatMul(x R, R^T), for the next one to go on from."""

    def __init__(self, found: Residual, turn: Rotation) -> None:
        self._found, self._turn = found, turn
        back = ir.tensor(np.ascontiguousarray(turn.matrix.T))
        self._back = initializer(f"turned-back/{found.width}", back)
        self._tables: dict[Hashable, ir.Value] = {}

    def edits(self) -> Edits:
        """All of them in order, until one is refused."""
        start = self._found.start
        make = Nodes(start.name or "embedding")
        x = self._back_of(make, self._table(make, start, "turned"), start.outputs[0])
        outcome = yield self._edit(
            make, "the table of a stream turned", [start], {start.outputs[0]: x}, start
        )
        for node in self._found.steps:
            if outcome is not Outcome.APPLIED:
                return
            outcome = yield self._norm(node) if node.op_type == "RMSNormalization" else self._sum(node)

    def _edit(
        self,
        make: Nodes,
        summary: str,
        removed: Sequence[ir.Node],
        replace: Mapping[ir.Value, ir.Value],
        before: ir.Node,
    ) -> Edit:
        used = {v for node in make.nodes for v in node.inputs if v is not None}
        shared = [v for v in (self._back, *self._tables.values()) if v in used and v.graph is None]
        return Edit(
            summary,
            remove=list(dict.fromkeys(removed)),
            insert=make.nodes,
            initializers=list(dict.fromkeys([*shared, *make.initializers])),
            replace=replace,
            before=before,
        )

    def _back_of(self, make: Nodes, turned: ir.Value, old: ir.Value) -> ir.Value:
        return make.op("MatMul", [turned, self._back], "turned-back", like=old)

    def _turned(self, x: ir.Value | None) -> ir.Value | None:
        """x R, where x is a value of the stream."""
        node = x.producer() if x is not None else None
        return node.inputs[0] if node is not None and self._back in node.inputs else None

    def _left(self, make: Nodes, node: ir.Node) -> tuple[list[ir.Node], dict[ir.Value, ir.Value]]:
        """The products back to x for `node`, to be taken away, and what takes their place for others."""
        removed, replace = [], {}
        for x in dict.fromkeys(node.inputs):
            turned = self._turned(x)
            if x is None or turned is None:
                continue
            back = x.producer()
            assert back is not None
            removed.append(back)
            if only_user(x) is None:
                replace[x] = self._back_of(make, turned, x)
        return removed, replace

    def _norm(self, node: ir.Node) -> Edit:
        make = Nodes(node.name or "norm")
        removed, replace = self._left(make, node)
        old = node.outputs[0]
        (normed,) = make.copy(node, [self._turned(node.inputs[0]), *node.inputs[1:]], "turned")
        normed.shape = old.shape
        products = products_of(old)
        assert not isinstance(products, str)
        for product in products:
            rows = self._turn.of(product.rows, 1)
            replace[product.output] = product.again(make, normed, rows, "turned", shared=self._tables)
            removed += product.removed
        summary = f"{len(products)} products behind a norm turned"
        return self._edit(make, summary, [*removed, node], replace, node)

    def _sum(self, node: ir.Node) -> Edit:
        make = Nodes(node.name or "sum")
        removed, replace = self._left(make, node)
        inputs = [self._operand(make, value) for value in node.inputs]
        summands = [s for v in node.inputs if v is not None and (s := self._found.summands.get(v))]
        removed += [n for summand in summands for n in summand.nodes]
        (made,) = make.copy(node, inputs, "turned")
        made.shape = node.outputs[0].shape
        replace[node.outputs[0]] = self._back_of(make, made, node.outputs[0])
        return self._edit(make, "a sum of the stream turned", [*removed, node], replace, node)

    def _operand(self, make: Nodes, value: ir.Value | None) -> ir.Value | None:
        """What takes the place of an input of a sum."""
        if value is None:
            return None
        summand = self._found.summands.get(value)
        return self._turned(value) or (
            self._vector(make, value) if summand is None else self._made(make, summand)
        )

    def _made(self, make: Nodes, summand: Summand) -> ir.Value:
        node = summand.node
        product = product_of(node)
        if isinstance(product, Product):
            bias = product.matrix.bias
            return product.again(
                make,
                product.matrix.x,
                self._turn.of(product.rows, 0),
                "turned",
                bias=None if bias is None else self._vector(make, bias),
            )
        if node.op_type == "Gather":
            return self._table(make, node, f"{node.name}/turned")
        made = {part.node.outputs[0]: self._made(make, part) for part in summand.of}
        inputs = [made.get(v) or self._vector(make, v) for v in node.inputs if v is not None]
        (result,) = make.copy(node, inputs, f"{node.name}/turned")
        result.shape = node.outputs[0].shape
        return result

    def _vector(self, make: Nodes, value: ir.Value) -> ir.Value:
        """A bias, turned; a number as it is."""
        if not is_vector(value, self._found.width):
            return value
        assert value.const_value is not None
        return make.weight(LazyTensor(self._turn.of(lazy(value.const_value), 0)), f"{value.name}~turned")

    def _table(self, make: Nodes, gather: ir.Node, label: str) -> ir.Value:
        """The rows that `gather` takes, turned."""
        found = constant_table(gather)
        assert found is not None
        name, rows = found
        tensor = LazyTensor(self._turn.of(rows, 1))
        table = self._tables.setdefault(tensor.identity, initializer(f"{name}~turned", tensor))
        return make.op("Gather", [table, gather.inputs[1]], label, like=gather.outputs[0])
