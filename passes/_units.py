"""Weights that are stored in one form: where they are read, and which of them share the choice."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from graphopt.ir import ConstantMatrix, Expr, constant_matrix, constant_table, used_values

__all__ = ["Site", "WeightUnit", "weight_units"]

_DTYPES = (ir.DataType.FLOAT, ir.DataType.FLOAT16)


@dataclass(frozen=True)
class Site:
    """A node that reads a weight [N, K]: a product of `x` by them, or where `is_lookup` rows by the ids `x`.

    `place` is its number in the graph.
    """

    node: ir.Node
    x: ir.Value
    rows: Expr
    name: str
    place: int
    is_lookup: bool = False
    bias: ir.Value | None = None

    @property
    def y(self) -> ir.Value:
        return self.node.outputs[0]

    @property
    def size(self) -> tuple[int, int]:
        """N and K."""
        return self.rows.shape[0], self.rows.shape[1]

    @property
    def weight(self) -> ir.Value:
        """The initializer that holds the rows."""
        value = self.node.inputs[0 if self.is_lookup else 1]
        assert value is not None
        turn = value.producer()
        stored = value if turn is None else turn.inputs[0]
        assert stored is not None
        return stored

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the results."""
        return (self.y.dtype or ir.DataType.FLOAT).numpy()


@dataclass(frozen=True)
class WeightUnit:
    """`sites` in the graph's order; several may read the same rows."""

    sites: tuple[Site, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Of the weights as products call them."""
        return tuple(dict.fromkeys(site.name for site in self.sites))

    @property
    def is_table(self) -> bool:
        """Whether nothing is multiplied by its weights: rows of them are looked up."""
        return all(site.is_lookup for site in self.sites)

    @property
    def weights(self) -> tuple[Expr, ...]:
        """Each once."""
        return tuple({site.rows.identity: site.rows for site in self.sites}.values())

    @property
    def entries(self) -> int:
        return sum(rows.shape[0] * rows.shape[1] for rows in self.weights)


def weight_units(graph: ir.Graph, *, lookups: bool = True) -> list[WeightUnit]:
    """The units of `graph`, in its order; without `lookups` tables that rows are taken from are none.

    One choice share: a weight and a table of the same rows; products of one x whose results meet in a
    product of values (gate and up) or in attention (queries, keys and values).
    """
    sites = [site for site in _sites(graph) if lookups or not site.is_lookup]
    of_node = {site.node: index for index, site in enumerate(sites)}
    parent = list(range(len(sites)))

    def root(index: int) -> int:
        while parent[index] != index:
            index = parent[index]
        return index

    def share(indices: Iterable[int]) -> None:
        roots = sorted({root(index) for index in indices})
        for other in roots[1:]:
            parent[other] = roots[0]

    by_rows: dict[Hashable, list[int]] = {}
    for index, site in enumerate(sites):
        by_rows.setdefault(site.rows.identity, []).append(index)
    for same in by_rows.values():
        share(same)
    for node in graph:
        if (node.domain, node.op_type) in (("", "Mul"), ("", "Attention")):
            share(_meeting(node, sites, of_node))
    groups: dict[int, list[Site]] = {}
    for index, site in enumerate(sites):
        groups.setdefault(root(index), []).append(site)
    return [WeightUnit(tuple(group)) for group in groups.values()]


def _sites(graph: ir.Graph) -> Iterator[Site]:
    """Products by constants, and lookups in constants."""
    for place, node in enumerate(graph):
        found = constant_matrix(node, _DTYPES)
        if isinstance(found, ConstantMatrix):
            yield Site(node, found.x, found.rows, found.name, place, bias=found.bias)
        table = constant_table(node)
        if table is not None and node.inputs[1] is not None:
            yield Site(node, node.inputs[1], table[1], table[0], place, is_lookup=True)


def _meeting(node: ir.Node, sites: list[Site], of_node: dict[ir.Node, int]) -> list[int]:
    """The products whose results meet in `node`, one for each of two or more inputs, if all are of one x."""
    found = []
    for value in node.inputs[:3]:
        before = _products_before(value, of_node)
        if len(before) == 1:
            found += before
    inputs = {sites[index].x for index in found}
    return found if len(set(found)) > 1 and len(inputs) == 1 else []


def _products_before(value: ir.Value | None, of_node: dict[ir.Node, int]) -> list[int]:
    """The products that `value` is made of, looking no further than each."""
    found: dict[int, None] = {}
    seen: set[ir.Value | None] = {None}
    stack = [value]
    while stack:
        one = stack.pop()
        if one is None or one in seen:
            continue
        seen.add(one)
        node = one.producer()
        if node is None:
            continue
        if node in of_node:
            found[of_node[node]] = None
            if len(found) > 1:
                break
        else:
            stack.extend(used_values(node))
    return list(found)
