"""equalize-layers: channels between two convolutions brought to like ranges."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from graphopt.ir import only_user
from graphopt.pipeline import Context, Contract, Edit, Edits, Level, NearMiss, Nodes, OpsetRange, Pass

from ._layers import Layer, layer_of

_PASSED = ("Relu", "LeakyRelu", "MaxPool")
"""What is between two layers and gives s f(x) for f(s x), s above zero."""


class EqualizeLayers(Pass):
    """What one convolution makes of a channel is divided by a factor that the next multiplies it by.

    Before: y = Conv(Relu(Conv(x, V, a)), W, b), or LeakyRelu, MaxPool or nothing between
    After:  y = Conv(Relu(Conv(x, V / s, a / s)), s W, b); s[c] = sqrt(max|V[c]| / max|W[:, c]|), to the
            nearest power of two
    Cross-layer equalization (Nagel et al. 2019, arXiv 1906.04721): one scale then serves the channels between
    the two, and the rows of W. No data are needed. By powers of two the result is the same, bit for bit.
    Refuses: results between the two with another use; weights that are no constants of float32 or float64, or
    that are used elsewhere, too.
    """

    name: ClassVar[str] = "equalize-layers"
    level: ClassVar[Level] = Level.IMPROVE
    contract: ClassVar[Contract] = Contract.exact()
    opsets: ClassVar[OpsetRange] = OpsetRange(7, None)

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        for node in graph:
            if node.graph is graph and node.op_type == "Conv" and node.domain == "":
                found = _equalized(node)
                if found is not None:
                    yield NearMiss(node.name or "Conv", found) if isinstance(found, str) else found


def _equalized(node: ir.Node) -> Edit | str | None:
    """The edit of a convolution and the next, or why not; None where no other follows."""
    between: list[ir.Node] = []
    after = only_user(node.outputs[0])
    while after is not None and after.op_type in _PASSED and after.domain == "" and not after.outputs[1:]:
        between.append(after)
        after = only_user(after.outputs[0])
    if after is None or after.op_type != "Conv" or after.domain != "":
        return None
    last = between[-1] if between else node
    if after.inputs[0] is not last.outputs[0]:
        return None
    first, second = layer_of(node), layer_of(after)
    if not isinstance(first, Layer) or not isinstance(second, Layer):
        return first if isinstance(first, str) else second if isinstance(second, str) else None
    factors = _factors(first, second)
    if factors is None:
        return "its channels are as even as powers of two make them"
    return _edit(first, between, second, factors)


def _edit(first: Layer, between: list[ir.Node], second: Layer, factors: NDArray[np.float64]) -> Edit:
    make, old = Nodes(second.node.name or "conv"), second.output
    source = first.node.inputs[0]
    assert source is not None
    bias = None if first.bias is None else first.bias / factors
    y = first.again(make, source, first.outputs_scaled(1 / factors), bias, "even", first.output)
    for number, node in enumerate(between):
        attributes: dict[str, Any] = dict(node.attributes)
        y = make.op(node.op_type, [y], f"between{number or ''}", like=node.outputs[0], **attributes)
    z = second.again(make, y, second.inputs_scaled(factors), second.bias, "evened", old)
    return Edit(
        f"{len(factors)} channels brought to like ranges",
        remove=[*first.nodes, *between, *second.nodes],
        insert=make.nodes,
        initializers=make.initializers,
        replace={old: z},
    )


def _factors(first: Layer, second: Layer) -> NDArray[np.float64] | None:
    """float64 [channels between the two], powers of two; None where all are one."""
    made = np.abs(first.expr.read()).reshape(first.channels, -1).max(1)
    weight = second.expr.read()
    group, inner = second.group, weight.shape[1]
    read = np.abs(weight).reshape(group, -1, inner, weight[0, 0].size).max((1, 3)).reshape(-1)
    if made.shape != read.shape or not (np.isfinite(made).all() and np.isfinite(read).all()):
        return None
    known = (made > 0) & (read > 0)
    exponents = np.zeros(len(made))
    exponents[known] = np.rint(np.log2(made[known] / read[known]) / 2)
    return None if not exponents.any() else np.exp2(exponents)
