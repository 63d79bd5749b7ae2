"""absorb-gains: what a norm multiplies its channels by goes into the weights behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import onnx_ir as ir

from graphopt.ir import Expr, InMemory, Scaled, has_data, initializer, lazy
from graphopt.pipeline import Context, Contract, Edit, Edits, Level, NearMiss, Nodes, OpsetRange, Pass

from ._products import Product, products_of, used_elsewhere


class AbsorbGains(Pass):
    """The gain of an RMS norm that only products by constants follow is multiplied into their weights.

    Before: y = MatMul(RMSNormalization(x, g), W), for each W behind the norm; g [K], W [K, N]
    After:  y = MatMul(RMSNormalization(x, 1), diag(g) W)
    The same arithmetic in another order, and what rotations of the residual stream need: a norm without gain
    turns with its input (SliceGPT, Ashkboos et al. 2024, arXiv 2401.15024; QuaRot, 2024, arXiv 2404.00456).
    Refuses: norms that something else than products by constants reads, or over other axes than the last;
    gains that are no constants; weights that are used elsewhere too, as a table that the head shares is,
    unless `shared` is "part": both are stored then.
    """

    name: ClassVar[str] = "absorb-gains"
    level: ClassVar[Level] = Level.COMPRESS
    contract: ClassVar[Contract] = Contract.reassociates()
    opsets: ClassVar[OpsetRange] = OpsetRange(23, None)
    main_graph_only: ClassVar[bool] = True

    @dataclass(frozen=True)
    class Options:
        """shared: whether a weight that is used elsewhere too stays as it is, and the gain with it (keep), or
        is stored a second time (part).
        """

        shared: Literal["keep", "part"] = "keep"

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        ones: dict[int, ir.Value] = {}
        for node in graph:
            if node.domain != "" or node.op_type != "RMSNormalization":
                continue
            gain = _gain(node)
            if gain is None:
                continue
            products = products_of(node.outputs[0]) if isinstance(gain, Expr) else gain
            if not isinstance(products, str) and self.options.shared == "keep":
                products = used_elsewhere(products) or products
            if isinstance(products, str):
                yield NearMiss(node.name or node.op_type, products)
                continue
            assert isinstance(gain, Expr)
            width = gain.shape[0]
            one = ones.setdefault(width, initializer(f"ones/{width}", ir.tensor(np.ones(width, np.float32))))
            yield _absorbed(node, gain, products, one)


def _gain(norm: ir.Node) -> Expr | str | None:
    """The float32 [K] that `norm` multiplies by, or why that cannot be moved; None where it is one."""
    scale = norm.inputs[1]
    if scale is None or not scale.is_initializer() or scale.is_graph_input() or scale.const_value is None:
        return "its gain is no constant"
    if norm.attributes.get_int("axis", -1) != -1 or len(scale.const_value.shape) != 1:
        return "it is over other axes than the last"
    if scale.dtype != ir.DataType.FLOAT or not has_data(scale.const_value):
        return "its gain is not of float32, or has no data"
    gain = lazy(scale.const_value)
    return None if isinstance(gain, InMemory) and bool((gain.array == 1).all()) else gain


def _absorbed(norm: ir.Node, gain: Expr, products: list[Product], one: ir.Value) -> Edit:
    make = Nodes(norm.name or "norm")
    old = norm.outputs[0]
    (plain,) = make.copy(norm, [norm.inputs[0], one], "plain")
    plain.shape = old.shape
    replace = {p.output: p.again(make, plain, Scaled(p.rows, gain, 1), "gain") for p in products}
    return Edit(
        f"gain of {gain.shape[0]} channels into {len(products)} products",
        remove=[norm, *dict.fromkeys(node for p in products for node in p.removed)],
        insert=make.nodes,
        initializers=[*([one] if one.graph is None else []), *make.initializers],
        replace=replace,
        before=products[0].node,
    )
