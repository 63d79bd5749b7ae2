"""raise-hard-swish: x * min(max(x + 3, 0), 6) / 6 becomes one operator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from graphopt.ir import (
    constant_factor,
    either_order,
    leak,
    only_user,
    producer,
    scalar_of,
    scalar_operand,
    wrong_constant,
)
from graphopt.pipeline import Context, Contract, Edit, Edits, Level, NearMiss, Nodes, OpsetRange, Pass

_SLOPE = 1 / 6


class RaiseHardSwish(Pass):
    """The hard sigmoid and swish, spelled out, become operators (Howard et al. 2019, arXiv 1905.02244).

    Before: x * Clip(x + 3, 0, 6) / 6, divided or multiplied by 1/6 before or after; x * HardSigmoid(x), whose
            alpha is 1/6 and beta 1/2
    After:  HardSwish(x)
    Before: Clip(x + 3, 0, 6) / 6
    After:  HardSigmoid(x), alpha = 1/6, beta = 1/2
    Refuses: other bounds and addends, numbers off by more than 1e-3; inner values with another use; an x of
    another type than float32 or float16.
    """

    name: ClassVar[str] = "raise-hard-swish"
    level: ClassVar[Level] = Level.RAISE
    contract: ClassVar[Contract] = Contract.reassociates()
    opsets: ClassVar[OpsetRange] = OpsetRange(14, None)

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        for node in graph:
            if node.domain != "" or node.op_type not in ("Mul", "Div"):
                continue
            form = _form(node.outputs[0])
            if form is None or _goes_on(node.outputs[0], form):
                continue
            reason = (
                form.wrong
                or wrong_constant("the factor of the clipped sum", form.factor * 6, 1)
                or leak(form.nodes)
            )
            if reason is None and form.x.dtype not in (ir.DataType.FLOAT, ir.DataType.FLOAT16):
                reason = f"the operator computes in float, not in {form.x.dtype}"
            if reason is not None:
                yield NearMiss(node.name or node.op_type, reason)
                continue
            make, old = Nodes(node.name or node.op_type), node.outputs[0]
            if form.gates:
                y = make.op("HardSwish", [form.x], "hard-swish", like=old)
            else:
                y = make.op("HardSigmoid", [form.x], "hard-sigmoid", like=old, alpha=_SLOPE, beta=0.5)
            yield Edit(make.nodes[0].op_type, remove=form.nodes, insert=make.nodes, replace={old: y})


@dataclass
class _Form:
    """factor * Clip(x + 3, 0, 6), times x if it `gates`; `wrong` is what keeps it from being that."""

    x: ir.Value
    factor: float
    gates: bool
    nodes: list[ir.Node]
    wrong: str | None


def _form(value: ir.Value) -> _Form | None:
    scaled = constant_factor(value)
    if scaled is not None:
        factor, inner, node = scaled
        form = _form(inner)
        if form is not None:
            form.factor *= factor
            form.nodes.insert(0, node)
        return form
    product = producer(value, "Mul")
    for x, gate in either_order(product) if product is not None else ():
        form = _form(gate)
        if product is not None and form is not None and form.x is x and not form.gates:
            form.gates = True
            form.nodes.insert(0, product)
            return form
    return _hard_sigmoid(value) or _clipped(value)


def _hard_sigmoid(value: ir.Value) -> _Form | None:
    node = producer(value, "HardSigmoid")
    if node is None or node.inputs[0] is None:
        return None
    wrong = wrong_constant("alpha", node.attributes.get_float("alpha", 0.2), _SLOPE, "1/6") or wrong_constant(
        "beta", node.attributes.get_float("beta", 0.5), 0.5
    )
    return _Form(node.inputs[0], _SLOPE, False, [node], wrong)


def _clipped(value: ir.Value) -> _Form | None:
    clip = producer(value, "Clip")
    add = producer(clip.inputs[0], "Add") if clip is not None else None
    for x, addend in either_order(add) if add is not None else ():
        three = scalar_operand(addend, x)
        if clip is None or add is None or three is None:
            continue
        low, high = ([scalar_of(bound) for bound in clip.inputs[1:]] + [None, None])[:2]
        wrong = wrong_constant("the addend", three, 3)
        if low != 0 or high is None:
            wrong = "what is clipped is not clipped at 0 and 6"
        return _Form(x, 1.0, False, [clip, add], wrong or wrong_constant("the upper bound", high or 0.0, 6))
    return None


def _goes_on(value: ir.Value, form: _Form) -> bool:
    """Whether the one user of `value` is a further part of the same form."""
    user = only_user(value)
    if user is None or user.domain != "" or user.op_type not in ("Mul", "Div"):
        return False
    longer = _form(user.outputs[0])
    return longer is not None and longer.x is form.x and len(longer.nodes) > len(form.nodes)
