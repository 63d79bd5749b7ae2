"""raise-rms-norm: root-mean-square normalization in its many spellings becomes one operator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from graphopt.ir import const_of, producer, scalar_of
from graphopt.pipeline import Context, Contract, Edit, Edits, Level, NearMiss, OpsetRange, Pass


class RaiseRmsNorm(Pass):
    """x / sqrt(mean(x^2) + epsilon) * w becomes RMSNormalization (Zhang and Sennrich 2019, arXiv 1910.07467).

    Before: Mul(w, Mul(x, Reciprocal(Sqrt(Add(ReduceMean(Pow(x, 2), -1), epsilon)))))
            the inner Mul also as Div(x, Sqrt(..)), the reciprocal as Div(1, Sqrt(..)) or Pow(.., -0.5),
            the square as Mul(x, x); w absent means ones
    After:  RMSNormalization(x, w), axis -1
    Refuses: a mean over another axis; a square of something else than what is divided; inner values with
    another use; epsilon that is not one constant.
    """

    name: ClassVar[str] = "raise-rms-norm"
    level: ClassVar[Level] = Level.RAISE
    contract: ClassVar[Contract] = Contract.reassociates()
    opsets: ClassVar[OpsetRange] = OpsetRange(23, None)

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        for node in graph:
            core = _normalized(node)
            if core is None:
                continue
            if isinstance(core, str):
                yield NearMiss(node.name or node.op_type, core)
                continue
            yield _raised(core)


@dataclass
class _Core:
    x: ir.Value
    epsilon: float
    nodes: list[ir.Node]
    output: ir.Value


def _normalized(node: ir.Node) -> _Core | str | None:
    """x * rsqrt(mean(x^2) + epsilon), as `node`; why not, where it nearly is."""
    if node.domain != "":
        return None
    if node.op_type == "Div":
        candidates = [(node.inputs[0], _root(node.inputs[1]))]
    elif node.op_type == "Mul":
        candidates = [(x, _inverse_root(r)) for x, r in (node.inputs, tuple(reversed(node.inputs)))]
    else:
        return None
    for x, tail in candidates:
        if x is None or tail is None:
            continue
        inner, nodes = tail
        found = _mean_square(inner, x)
        if isinstance(found, str):
            return found
        if found is not None:
            epsilon, more = found
            used = [node, *nodes, *more]
            if any(_leaks(n, used) for n in used[1:]):
                return "an inner value has another use"
            return _Core(x, epsilon, used, node.outputs[0])
    return None


def _leaks(node: ir.Node, inside: list[ir.Node]) -> bool:
    return any(o.is_graph_output() or any(u not in inside for u, _ in o.uses()) for o in node.outputs)


_Tail = tuple[ir.Value | None, list[ir.Node]]


def _root(value: ir.Value | None) -> _Tail | None:
    node = producer(value, "Sqrt")
    if node is not None:
        return node.inputs[0], [node]
    node = producer(value, "Pow")
    return (node.inputs[0], [node]) if node is not None and scalar_of(node.inputs[1]) == 0.5 else None


def _inverse_root(value: ir.Value | None) -> _Tail | None:
    node = producer(value, "Reciprocal")
    if node is None:
        divided = producer(value, "Div")
        if divided is not None and scalar_of(divided.inputs[0]) == 1.0:
            tail = _root(divided.inputs[1])
            return (tail[0], [divided, *tail[1]]) if tail else None
        power = producer(value, "Pow")
        if power is not None and scalar_of(power.inputs[1]) == -0.5:
            return power.inputs[0], [power]
        return None
    tail = _root(node.inputs[0])
    return (tail[0], [node, *tail[1]]) if tail else None


def _mean_square(value: ir.Value | None, x: ir.Value) -> tuple[float, list[ir.Node]] | str | None:
    add = producer(value, "Add")
    if add is None:
        return None
    for mean_value, epsilon_value in (tuple(add.inputs), tuple(reversed(add.inputs))):
        mean = producer(mean_value, "ReduceMean")
        square = mean.inputs[0].producer() if mean is not None and mean.inputs[0] is not None else None
        if mean is None or square is None or not _squares(square):
            continue
        epsilon = scalar_of(epsilon_value)
        if epsilon is None:
            return "epsilon is not one constant number"
        if square.inputs[0] is not x:
            return "what is squared is not what is divided"
        if not _over_last_axis(mean, x):
            return "the mean is not over the last axis"
        return epsilon, [add, mean, square]
    return None


def _squares(node: ir.Node) -> bool:
    if node.op_type == "Pow":
        return scalar_of(node.inputs[1]) == 2.0
    return node.op_type == "Mul" and node.inputs[0] is node.inputs[1]


def _over_last_axis(mean: ir.Node, x: ir.Value) -> bool:
    axes = const_of(mean.inputs[1]) if len(mean.inputs) > 1 else None
    last = {-1} | ({len(x.shape) - 1} if x.shape is not None else set())
    keeps = mean.attributes.get_int("keepdims", 1) == 1
    return keeps and axes is not None and axes.size == 1 and int(axes.reshape(-1)[0]) in last


def _raised(core: _Core) -> Edit:
    tape = ir.tape.Tape()
    root = core.nodes[0]
    nodes, output, scale = list(core.nodes), core.output, None
    uses = tuple(core.output.uses())
    if len(uses) == 1 and not core.output.is_graph_output():
        after = uses[0].node
        other = next((v for v in after.inputs if v is not core.output), None)
        if after.op_type == "Mul" and after.domain == "" and _is_scale(other, core.x):
            scale, output = other, after.outputs[0]
            nodes.insert(0, after)
            root = after
    if scale is None:
        width = core.x.shape[-1] if core.x.shape is not None else None
        size = width if isinstance(width, int) else 1
        scale = tape.initializer(ir.tensor(np.ones(size, np.float32)), f"{root.name}/ones")
    attributes = {"axis": -1, "epsilon": core.epsilon, "stash_type": 1}
    y = tape.op("RMSNormalization", [core.x, scale], attributes, name=f"{root.name}/rms_norm")
    return Edit(
        "RMSNormalization",
        remove=nodes,
        insert=tape.nodes,
        initializers=tape.initializers,
        replace={output: y},
        before=root,
    )


def _is_scale(value: ir.Value | None, x: ir.Value) -> bool:
    """A constant vector as wide as the last axis of x."""
    if value is None or not value.is_initializer() or value.shape is None or x.shape is None:
        return False
    return len(value.shape) == 1 and isinstance(value.shape[0], int) and value.shape[0] == x.shape[-1]
