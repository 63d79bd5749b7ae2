"""unfold-conv: a convolution with a kernel of one element becomes a product, whose weight can be packed."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import ClassVar

import onnx_ir as ir

from graphopt.ir import LazyTensor, Reshaped, Transposed, has_data, lazy, name_matches
from graphopt.pipeline import Context, Contract, Edit, Edits, Level, NearMiss, Nodes, OpsetRange, Pass


class UnfoldConv(Pass):
    """A convolution that only mixes channels is written as MatMul, for passes that round products' weights.

    Before: y = Conv(x, W, b); x [N, C, ..], W [M, C, 1, ..] a constant, in one group, no strides
    After:  y = Transpose(MatMul(Transpose(x), W^T [C, M]) + b), channels last in between
    The same arithmetic. The Transposes make it slower in float32, so it is for recipes in which
    quantize-weights follows, with the same `smallest` and `exclude`.
    Refuses: larger kernels, groups, strides and pads; weights that are no constants of float32, without
    data, or small; names that `exclude` matches; an x of unknown rank.
    """

    name: ClassVar[str] = "unfold-conv"
    level: ClassVar[Level] = Level.COMPRESS
    contract: ClassVar[Contract] = Contract.reassociates()
    opsets: ClassVar[OpsetRange] = OpsetRange(13, None)
    main_graph_only: ClassVar[bool] = True

    @dataclass(frozen=True)
    class Options:
        """smallest: entries below which a weight stays as it is; exclude: globs over weight names, separated
        by commas.
        """

        smallest: int = 4096
        exclude: str = ""

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        for node in graph:
            if node.domain != "" or node.op_type != "Conv":
                continue
            reason = self._unfit(node)
            if reason is None:
                yield _product(node)
            else:
                yield NearMiss(node.name or "Conv", reason)

    def _unfit(self, node: ir.Node) -> str | None:
        x, weight = node.inputs[0], node.inputs[1]
        tensor = None if weight is None or weight.is_graph_input() else weight.const_value
        if weight is None or tensor is None or tensor.dtype != ir.DataType.FLOAT:
            return "its weight is no constant of float32"
        if not has_data(tensor):
            return "its weight has no data"
        shape = tensor.shape.numpy()
        if prod(shape[2:]) != 1:
            return f"its kernel is of {' x '.join(map(str, shape[2:]))} elements"
        attributes = node.attributes
        if attributes.get_int("group", 1) != 1:
            return "it has groups"
        if any(step != 1 for step in attributes.get_ints("strides", ())) or any(
            attributes.get_ints("pads", ())
        ):
            return "it has strides or pads"
        if x is None or x.shape is None:
            return "the rank of what it reads is unknown"
        if prod(shape) < self.options.smallest:
            return f"weight {weight.name} has fewer than {self.options.smallest} entries"
        if name_matches(weight.name or "", self.options.exclude):
            return f"weight {weight.name} is left out by name"
        return None


def _product(node: ir.Node) -> Edit:
    x, weight, bias = (*node.inputs, None)[:3]
    assert x is not None
    assert x.shape is not None
    assert weight is not None
    assert weight.const_value is not None
    make, old = Nodes(node.name or "conv"), node.outputs[0]
    count, channels = weight.const_value.shape.numpy()[:2]
    rank = len(x.shape)
    to_last, back = [0, *range(2, rank), 1], [0, rank - 1, *range(1, rank - 1)]
    dims = list(x.shape)
    inner = [dims[0], *dims[2:]]
    matrix = Transposed(Reshaped(lazy(weight.const_value), (count, channels)), (1, 0))
    rows = make.op("Transpose", [x], "rows", dtype=x.dtype, shape=[*inner, channels], perm=to_last)
    held = make.weight(LazyTensor(matrix), f"{weight.name}~matrix")
    y = make.op("MatMul", [rows, held], "product", dtype=x.dtype, shape=[*inner, count])
    if bias is not None:
        y = make.op("Add", [y, bias], "bias", dtype=x.dtype, shape=[*inner, count])
    y = make.op("Transpose", [y], "channels", like=old, perm=back)
    return Edit(
        f"a product of {channels} by {count} channels",
        remove=[node],
        insert=make.nodes,
        initializers=make.initializers,
        replace={old: y},
    )
