"""Work that is written down a node after the other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import prod

from graphopt.cost._dims import Shape
from graphopt.cost._work import NodeWork, Product, Result, Use, Weight

__all__ = ["Row", "Writing"]

Row = tuple[str, str, list[str], Shape, int]
"""An operator, what it makes, of what, and the shape and bits of that."""


@dataclass
class Writing:
    """Nodes of float32, what they read, and the caches they take. Each node is called what it makes."""

    nodes: list[NodeWork] = field(default_factory=list)
    stored: dict[str, Weight] = field(default_factory=dict)
    caches: list[Result] = field(default_factory=list)

    def weight(self, name: str, *sizes: int) -> Weight:
        """The one that is there already, where there is one."""
        return self.stored.setdefault(name, Weight(name, sizes, 32, 4 * prod(sizes)))

    def constants(self, **each: tuple[int, ...]) -> None:
        """Small ones: the bits of an element, and sizes."""
        for name, (bits, *sizes) in each.items():
            self.stored[name] = Weight(name, tuple(sizes), bits, bits // 8 * prod(sizes))

    def node(
        self,
        operator: str,
        name: str,
        operands: Sequence[str],
        sizes: Shape,
        bits: int = 32,
        weight: str = "",
    ) -> str:
        uses = (Use(weight, self.stored[weight].bytes),) if weight else ()
        made = (Result(name, sizes, bits),)
        self.nodes.append(NodeWork(name, operator, "other", made, tuple(operands), uses))
        return name

    def rows(self, rows: Iterable[Row]) -> None:
        """A node for each of the `rows`. What is there already is not made again."""
        known = {node.name for node in self.nodes}
        for operator, name, operands, sizes, bits in rows:
            if name not in known:
                self.node(operator, name, operands, sizes, bits)

    def parts(self, operator: str, names: Sequence[str], x: str, sizes: Sequence[Shape]) -> None:
        """One node of several results."""
        made = tuple(Result(name, size, 32) for name, size in zip(names, sizes, strict=True))
        self.nodes.append(NodeWork(names[0], operator, "other", made, (x,)))

    def lookup(self, table: Weight, made: str, ids: str, rows: Shape) -> str:
        """Rows of a `table` by `ids`."""
        count, width = table.shape
        use = Use(table.name, table.bytes, rows, table.bytes // count)
        result = Result(made, (*rows, width), 32)
        self.nodes.append(NodeWork(made, "Gather", "lookup", (result,), (ids,), (use,)))
        return made

    def product(
        self, x: str, weight: Weight, made: str, sizes: tuple[int, int], rows: Shape, operator: str = "MatMul"
    ) -> str:
        """Rows of `x` times a weight [k, n], or one that lies turned."""
        product = Product(weight.name, *sizes, 32, 0, zeros=False, bytes=weight.bytes, rows=rows)
        result, use = Result(made, (*rows, sizes[1]), 32), Use(weight.name, weight.bytes)
        self.nodes.append(NodeWork(made, operator, "product", (result,), (x,), (use,), product))
        return made
