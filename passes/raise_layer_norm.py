"""raise-layer-norm: layer normalization, spelled out, becomes one operator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from graphopt.ir import const_of, producer, scalar_of
from graphopt.pipeline import Context, Contract, Edit, Edits, Level, NearMiss, OpsetRange, Pass


class RaiseLayerNorm(Pass):
    """(x - mean) / sqrt(mean((x - mean)^2) + epsilon) * w + b becomes LayerNormalization (arXiv 1607.06450).

    Before: d = Sub(x, ReduceMean(x)); Add(Mul(Div(d, Sqrt(Add(ReduceMean(Pow(d, 2)), epsilon))), w), b)
            the square also as Mul(d, d), the division also as Mul by a Reciprocal; b may be absent
    After:  LayerNormalization(x, w, b), axis -1
    Refuses: means over another axis; w that is no vector of the last axis; epsilon that is not one constant;
    inner values with another use.
    """

    name: ClassVar[str] = "raise-layer-norm"
    level: ClassVar[Level] = Level.RAISE
    contract: ClassVar[Contract] = Contract.reassociates()
    opsets: ClassVar[OpsetRange] = OpsetRange(17, None)

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        for node in graph:
            found = _normalized(node)
            if found is None:
                continue
            if isinstance(found, str):
                yield NearMiss(node.name or node.op_type, found)
                continue
            edit = _raised(found)
            if isinstance(edit, str):
                yield NearMiss(node.name or node.op_type, edit)
            else:
                yield edit


@dataclass
class _Core:
    x: ir.Value
    epsilon: float
    nodes: list[ir.Node]
    output: ir.Value


def _normalized(node: ir.Node) -> _Core | str | None:
    """d / sqrt(mean(d^2) + epsilon) with d = x - mean(x), as `node`."""
    if node.domain != "":
        return None
    if node.op_type == "Div":
        pairs: list[tuple[ir.Value | None, ir.Value | None, list[ir.Node]]] = [
            (node.inputs[0], node.inputs[1], [])
        ]
    elif node.op_type == "Mul":
        pairs = [
            (d, reciprocal.inputs[0], [reciprocal])
            for d, r in (tuple(node.inputs), tuple(reversed(node.inputs)))
            if (reciprocal := producer(r, "Reciprocal")) is not None
        ]
    else:
        return None
    for centred, root_value, extra in pairs:
        root = producer(root_value, "Sqrt")
        sub = producer(centred, "Sub")
        if root is None or sub is None or centred is None:
            continue
        found = _variance(root.inputs[0], centred)
        if found is None:
            continue
        if isinstance(found, str):
            return found
        epsilon, inner = found
        mean = producer(sub.inputs[1], "ReduceMean")
        x = sub.inputs[0]
        if mean is None or x is None or mean.inputs[0] is not x:
            return "what is subtracted is not the mean"
        if not _over_last_axis(mean, x):
            return "the mean is not over the last axis"
        return _Core(x, epsilon, [node, *extra, root, *inner, sub, mean], node.outputs[0])
    return None


def _variance(value: ir.Value | None, centred: ir.Value) -> tuple[float, list[ir.Node]] | str | None:
    add = producer(value, "Add")
    if add is None:
        return None
    for mean_value, epsilon_value in (tuple(add.inputs), tuple(reversed(add.inputs))):
        mean = producer(mean_value, "ReduceMean")
        square = mean.inputs[0].producer() if mean is not None and mean.inputs[0] is not None else None
        if mean is None or square is None or square.inputs[0] is not centred:
            continue
        if square.op_type == "Pow":
            if scalar_of(square.inputs[1]) != 2.0:
                continue
        elif square.op_type != "Mul" or square.inputs[1] is not centred:
            continue
        epsilon = scalar_of(epsilon_value)
        if epsilon is None:
            return "epsilon is not one constant number"
        if not _over_last_axis(mean, centred):
            return "the mean is not over the last axis"
        return epsilon, [add, mean, square]
    return None


def _over_last_axis(mean: ir.Node, x: ir.Value) -> bool:
    axes = const_of(mean.inputs[1]) if len(mean.inputs) > 1 else None
    last = {-1} | ({len(x.shape) - 1} if x.shape is not None else set())
    keeps = mean.attributes.get_int("keepdims", 1) == 1
    return keeps and axes is not None and axes.size == 1 and int(axes.reshape(-1)[0]) in last


def _raised(core: _Core) -> Edit | str:
    nodes, output = list(core.nodes), core.output
    scale = bias = None
    step = _next(output, "Mul", core.x)
    if step is not None:
        mul, scale = step
        nodes.insert(0, mul)
        output = mul.outputs[0]
        step = _next(output, "Add", core.x)
        if step is not None:
            add, bias = step
            nodes.insert(0, add)
            output = add.outputs[0]
    inside = set(nodes)
    for node in nodes[1:]:
        if any(o.is_graph_output() or any(u not in inside for u, _ in o.uses()) for o in node.outputs):
            return "an inner value has another use"
    tape = ir.tape.Tape()
    name = f"{nodes[0].name}/layer_norm"
    if scale is None:
        width = core.x.shape[-1] if core.x.shape is not None else None
        if not isinstance(width, int):
            return "there is no scale, and the last axis is not known"
        scale = tape.initializer(ir.tensor(np.ones(width, np.float32)), f"{name}/ones")
    inputs = [core.x, scale, bias] if bias is not None else [core.x, scale]
    y = tape.op("LayerNormalization", inputs, {"axis": -1, "epsilon": core.epsilon}, name=name)
    return Edit(
        "LayerNormalization",
        remove=nodes,
        insert=tape.nodes,
        initializers=tape.initializers,
        replace={output: y},
        before=nodes[0],
    )


def _next(value: ir.Value, op_type: str, x: ir.Value) -> tuple[ir.Node, ir.Value] | None:
    """The only user of `value`, if it is an `op_type` with a constant vector as wide as x's last axis."""
    uses = tuple(value.uses())
    if len(uses) != 1 or value.is_graph_output():
        return None
    node = uses[0].node
    other = next((v for v in node.inputs if v is not value), None)
    if node.op_type != op_type or node.domain != "" or other is None or not other.is_initializer():
        return None
    if other.shape is None or x.shape is None or len(other.shape) != 1 or other.shape[0] != x.shape[-1]:
        return None
    return node, other
