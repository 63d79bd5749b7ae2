"""lower-quick-gelu: x * sigmoid(alpha * x) becomes one kernel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from graphopt.ir import MICROSOFT, consumers, is_output, producer, scalar_of
from graphopt.pipeline import Context, Contract, Edit, Edits, Level, NearMiss, Nodes, Pass, Trail


class LowerQuickGelu(Pass):
    """SiLU, and its scaled form, become onnxruntime's QuickGelu.

    Before: Mul(x, Sigmoid(x)) or Mul(x, Sigmoid(Mul(x, alpha))); Swish(x), for which there is no kernel
    After:  QuickGelu(x), alpha an attribute (1 for SiLU; the kernel's default is 1.702)
    Refuses: a Sigmoid with another use; an alpha that is not one constant number; a dtype other than float32.
    """

    name: ClassVar[str] = "lower-quick-gelu"
    level: ClassVar[Level] = Level.LOWER
    contract: ClassVar[Contract] = Contract.reassociates()

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        told: set[ir.Node] = set()
        for node in graph:
            if node.op_type == "Swish" and node.domain == "":
                yield _of_swish(node)
                continue
            if node.op_type != "Mul" or node.domain != "" or len(node.inputs) != 2:
                continue
            gated = _gated(node.inputs[0], node.inputs[1]) or _gated(node.inputs[1], node.inputs[0])
            if gated is None:
                continue
            told.add(node)
            reason = _unfit(gated)
            if reason is not None:
                yield NearMiss(node.name or "Mul", reason)
                continue
            make = Nodes(node.name or "silu")
            y = make.op(
                "QuickGelu",
                [gated.x],
                "quick_gelu",
                like=node.outputs[0],
                domain=MICROSOFT,
                alpha=gated.alpha,
            )
            inner = [n for n in (gated.scaling,) if n is not None and not is_output(n.outputs[0])]
            yield Edit(
                f"QuickGelu, alpha {gated.alpha:g}",
                remove=[
                    node,
                    gated.sigmoid,
                    *(n for n in inner if consumers(n.outputs[0]) == (gated.sigmoid,)),
                ],
                insert=make.nodes,
                replace={node.outputs[0]: y},
            )
        yield from _TRAIL.near_misses(graph, told)


def _of_swish(node: ir.Node) -> Edit | NearMiss:
    x, old = node.inputs[0], node.outputs[0]
    if x is None or x.dtype != ir.DataType.FLOAT:
        return NearMiss(node.name or "Swish", "the kernel takes float32")
    make, alpha = Nodes(node.name or "swish"), node.attributes.get_float("alpha", 1.0)
    y = make.op("QuickGelu", [x], "quick_gelu", like=old, domain=MICROSOFT, alpha=alpha)
    return Edit(f"QuickGelu, alpha {alpha:g}", remove=[node], insert=make.nodes, replace={old: y})


def _is_anchor(node: ir.Node) -> bool:
    """A Sigmoid of x, or of something made of x in one step, where x goes into another product too."""
    x = node.inputs[0] if node.op_type == "Sigmoid" else None
    made = x.producer() if x is not None else None
    near = [v for v in (x, *(made.inputs if made is not None else ())) if v is not None]
    return any(
        user.op_type in ("Div", "Mul") and user is not made
        for value in near
        if value.const_value is None
        for user in consumers(value)
    )


_TRAIL = Trail(
    _is_anchor, (("Mul",),), "the sigmoid is not of what it is multiplied with, nor of a number times it"
)


@dataclass(frozen=True)
class _Gated:
    x: ir.Value
    sigmoid: ir.Node
    scaling: ir.Node | None
    alpha: float | None


def _gated(x: ir.Value | None, gate: ir.Value | None) -> _Gated | None:
    """x and the parts of gate = Sigmoid(alpha x); alpha is None where it is not a constant."""
    sigmoid = producer(gate, "Sigmoid")
    if x is None or sigmoid is None:
        return None
    if sigmoid.inputs[0] is x:
        return _Gated(x, sigmoid, None, 1.0)
    scaling = producer(sigmoid.inputs[0], "Mul")
    if scaling is None or x not in scaling.inputs:
        return None
    factor = scaling.inputs[1] if scaling.inputs[0] is x else scaling.inputs[0]
    keeps_shape = factor is not None and x.shape is not None and len(factor.shape or ()) <= len(x.shape)
    return _Gated(x, sigmoid, scaling, scalar_of(factor) if keeps_shape else None)


def _unfit(gated: _Gated) -> str | None:
    if gated.alpha is None:
        return "the factor inside the sigmoid is not a scalar constant"
    if len(consumers(gated.sigmoid.outputs[0])) > 1 or is_output(gated.sigmoid.outputs[0]):
        return "the sigmoid has another use"
    if gated.x.dtype != ir.DataType.FLOAT:
        return f"the kernel does not take {gated.x.dtype}"
    return None
