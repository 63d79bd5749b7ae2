"""Products by constants, found by what they read and made again with other weights."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import onnx_ir as ir

from graphopt.ir import (
    ConstantMatrix,
    Expr,
    LazyTensor,
    Transposed,
    blocks_of,
    constant_matrix,
    consumers,
    is_output,
    simplified,
)
from graphopt.pipeline import Nodes

__all__ = ["Product", "product_of", "products_of", "used_elsewhere"]


@dataclass(frozen=True)
class Product:
    """y = MatMul(x, W) + b, the bias only where `node` is a Gemm with one; `rows` are float32 [N, K]."""

    node: ir.Node
    matrix: ConstantMatrix

    @property
    def rows(self) -> Expr:
        return self.matrix.rows

    @property
    def output(self) -> ir.Value:
        return self.node.outputs[0]

    @property
    def removed(self) -> tuple[ir.Node, ...]:
        return self.matrix.removed

    @property
    def weight(self) -> ir.Value:
        """The initializer that its weight is in."""
        value = self.node.inputs[1]
        assert value is not None
        turn = value.producer()
        stored = value if turn is None else turn.inputs[0]
        assert stored is not None
        return stored

    def again(
        self,
        make: Nodes,
        x: ir.Value,
        rows: Expr,
        what: str,
        *,
        bias: ir.Value | None = None,
        shared: Mapping[Hashable, ir.Value] = MappingProxyType({}),
    ) -> ir.Value:
        """The product of `x` and other rows, which are named after the old ones and `what`.

        Rows that are `shared`, by their identity, are taken from the value that holds them.
        """
        table = shared.get(simplified(rows).identity)
        if table is None:
            weight = make.weight(LazyTensor(Transposed(rows, (1, 0))), f"{self.matrix.name}~{what}")
        else:
            label, turned = f"{self.node.name}/{what}-weight", tuple(reversed(rows.shape))
            weight = make.op("Transpose", [table], label, dtype=table.dtype, shape=turned, perm=[1, 0])
        y = make.op("MatMul", [x, weight], f"{self.node.name}/{what}", like=self.output)
        bias = bias or self.matrix.bias
        if bias is None:
            return y
        return make.op("Add", [y, bias], f"{self.node.name}/{what}-bias", like=self.output)


def product_of(node: ir.Node | None) -> Product | str:
    """The product by a constant that `node` is, or why it is none that can be changed."""
    if node is None:
        return "it is made by no product"
    found = constant_matrix(node)
    if isinstance(found, ConstantMatrix):
        product = Product(node, found)
        if product.weight.is_graph_output():
            return f"weight {found.name} is an output of the model"
        if blocks_of(found.rows) is not None:
            return f"weight {found.name} came in blocks"
        return product
    return f"{node.op_type} is no product by a constant" if found is None else found


def products_of(x: ir.Value, besides: Sequence[ir.Node] = ()) -> list[Product] | str:
    """What reads `x`, but for the nodes `besides`: products by constants; or why others do, too."""
    if is_output(x):
        return f"{x.name!r} is an output of the model"
    found: list[Product] = []
    for node in consumers(x):
        if node in besides:
            continue
        if node.inputs[0] is not x or x in node.inputs[1:]:
            return f"{node.op_type} reads {x.name!r}, and not as rows of a product"
        product = product_of(node)
        if isinstance(product, str):
            return f"{x.name!r}: {product}"
        found.append(product)
    return found or f"{x.name!r} is read by no product"


def used_elsewhere(products: Sequence[Product]) -> str | None:
    """Why to leave weights alone that something else than `products` reads, too."""
    nodes = {node for product in products for node in product.removed}
    for product in products:
        if any(user not in nodes for user in consumers(product.weight)):
            return f"weight {product.matrix.name} is used elsewhere, too"
    return None
