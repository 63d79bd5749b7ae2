"""raise-rms-norm: root-mean-square normalization in its many spellings becomes one operator."""

from __future__ import annotations

from typing import ClassVar

import onnx_ir as ir

from graphopt.ir import either_order, only_user, producer, scalar_operand
from graphopt.pipeline import Context, Contract, Edit, Edits, Level, OpsetRange, Pass, Trail

from ._norms import (
    TO_QUOTIENT,
    Core,
    following,
    mean_of_squares,
    ones_like,
    raised_norms,
    removable,
    root,
    squared,
)


class RaiseRmsNorm(Pass):
    """x / sqrt(mean(x^2) + epsilon) * w becomes RMSNormalization (Zhang and Sennrich 2019, arXiv 1910.07467).

    Before: Mul(w, Mul(x, Reciprocal(Sqrt(Add(ReduceMean(Pow(x, 2), -1), epsilon)))))
            the inner Mul also as Div(x, Sqrt(..)), the reciprocal as Div(1, Sqrt(..)) or Pow(.., -0.5),
            the root as Pow(.., 0.5), the square as Mul(x, x); w absent means ones
    After:  RMSNormalization(x, w), axis -1
    Before: Mul(w, Cast(.. the same of Cast(x, float) .., half precision)), x in half precision
    After:  RMSNormalization(x, w), which computes in float itself
    Refuses: a mean over another axis; a square of something else than what is divided; inner values with
    another use; epsilon that is not one constant; exponents off by more than 1e-3 of their value. An x that
    has had its mean taken away is left to raise-layer-norm.
    """

    name: ClassVar[str] = "raise-rms-norm"
    level: ClassVar[Level] = Level.RAISE
    contract: ClassVar[Contract] = Contract.reassociates()
    opsets: ClassVar[OpsetRange] = OpsetRange(23, None)

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        yield from raised_norms(graph, _normalized, _raised, _TRAIL)


def _normalized(node: ir.Node) -> Core | str | None:
    """x * rsqrt(mean(x^2) + epsilon), as `node`; why not, where it nearly is."""
    if node.domain != "" or node.op_type not in ("Div", "Mul"):
        return None
    pairs = list(either_order(node))
    for x, factor in pairs[:1] if node.op_type == "Div" else pairs:
        tail = root(factor) if node.op_type == "Div" else _inverse_root(factor)
        if tail is None or _is_centred(x):
            continue
        found = mean_of_squares(tail[0], x, "what is divided")
        if isinstance(found, str):
            return found
        if found is not None:
            return Core(x, found[0], [node, *tail[1], *found[1]], node.outputs[0])
    return None


def _is_centred(x: ir.Value) -> bool:
    """Whether this is a layer norm: x has had its mean taken away."""
    sub = producer(x, "Sub")
    mean = producer(sub.inputs[1], "ReduceMean") if sub is not None else None
    return sub is not None and mean is not None and mean.inputs[0] is sub.inputs[0]


def _is_anchor(node: ir.Node) -> bool:
    x = squared(node)
    return x is not None and not _is_centred(x)


_TRAIL = Trail(
    _is_anchor,
    TO_QUOTIENT,
    "the root of the mean of squares does not divide what is squared",
    over=("Reciprocal",),
)


def _inverse_root(value: ir.Value) -> tuple[ir.Value, list[ir.Node]] | None:
    node = producer(value, "Reciprocal")
    if node is not None:
        tail = root(node.inputs[0])
        return (tail[0], [node, *tail[1]]) if tail else None
    node = producer(value, "Div")
    if node is not None and scalar_operand(node.inputs[0], node.inputs[1]) == 1.0:
        tail = root(node.inputs[1])
        return (tail[0], [node, *tail[1]]) if tail else None
    node = producer(value, "Pow")
    if (
        node is not None
        and node.inputs[0] is not None
        and scalar_operand(node.inputs[1], node.inputs[0]) == -0.5
    ):
        return node.inputs[0], [node]
    return None


def _raised(core: Core) -> Edit | str:
    reason = removable(core)
    if reason is not None:
        return reason
    tape = ir.tape.Tape()
    x, output, nodes, scale = core.x, core.output, list(core.nodes), None
    half = _in_half_precision(core)
    if half is not None:
        x, output, nodes = half[0], half[1].outputs[0], [half[1], *nodes]
    step = following(output, "Mul", x)
    if step is not None:
        nodes, scale, output = [step[0], *nodes], step[1], step[0].outputs[0]
    name = f"{nodes[0].name}/rms_norm"
    scale = scale if scale is not None else ones_like(x, f"{name}/ones", tape)
    if scale is None:
        return "there is no scale, and the size of the last axis is not known"
    attributes = {"axis": -1, "epsilon": core.epsilon, "stash_type": 1}
    y = tape.op("RMSNormalization", [x, scale], attributes, name=name)
    return Edit(
        "RMSNormalization",
        remove=nodes,
        insert=tape.nodes,
        initializers=tape.initializers,
        replace={output: y},
        before=nodes[0],
    )


def _in_half_precision(core: Core) -> tuple[ir.Value, ir.Node] | None:
    """x before it was cast to float for the norm, and the Cast of the normed value back."""
    up, down = producer(core.x, "Cast"), only_user(core.output)
    if up is None or up.inputs[0] is None or core.x.dtype != ir.DataType.FLOAT or down is None:
        return None
    source = up.inputs[0]
    if source.dtype not in (ir.DataType.FLOAT16, ir.DataType.BFLOAT16):
        return None
    back = down.op_type == "Cast" and down.domain == "" and down.outputs[0].dtype == source.dtype
    return (source, down) if back else None
