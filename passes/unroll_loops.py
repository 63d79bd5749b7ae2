"""unroll-loops: a Loop of a few steps, whose number is a constant, becomes these steps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from graphopt.ir import const_of, node_name, producer
from graphopt.pipeline import (
    Context,
    Contract,
    Edit,
    Edits,
    Level,
    NearMiss,
    Nodes,
    OpsetRange,
    Pass,
    weight_bytes,
)

from ._bodies import Body, body_of, passed


class UnrollLoops(Pass):
    """The body of a Loop, as often as it runs.

    Before: y, all = Loop(3, true, x) <body = {after = Tanh(before), state = Neg(after)}>
    After:  y = Tanh(Tanh(Tanh(x))), all = Concat of their negatives, each with a first axis of one
    In float16 onnxruntime rounds between steps of a Loop, and not between nodes that it computes in float32.
    Refuses: a number of steps, or a condition to go on, that is computed; no step at all; more nodes, or more
    bytes of a file, than the options allow.
    """

    name: ClassVar[str] = "unroll-loops"
    level: ClassVar[Level] = Level.IMPROVE
    contract: ClassVar[Contract] = Contract.reassociates()
    opsets: ClassVar[OpsetRange] = OpsetRange(13, None)

    @dataclass(frozen=True)
    class Options:
        """nodes: the most that a loop becomes; share: of the weights' bytes, what the file may grow by."""

        nodes: int = 256
        share: float = 0.01

    options: Options

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        for node in graph:
            if (node.domain, node.op_type) != ("", "Loop"):
                continue
            steps = _steps(node)
            if isinstance(steps, str):
                yield NearMiss(node_name(node), steps)
                continue
            many = self._too_many(node, steps, context.model)
            if many is not None:
                yield NearMiss(node_name(node), many)
                continue
            yield _unrolled(node, steps)

    def _too_many(self, node: ir.Node, steps: int, model: ir.Model) -> str | None:
        inner = list(node.attributes["body"].as_graph().all_nodes())
        if steps * len(inner) > self.options.nodes:
            return f"it would become {steps * len(inner)} nodes"
        room = self.options.share * weight_bytes(model)
        growth = (steps - 1) * sum(len(ir.to_proto(one).SerializeToString()) for one in inner)
        return (
            f"the file would grow by {growth:,} bytes, of {room:,.0f} that are allowed"
            if growth > room
            else None
        )


def _steps(node: ir.Node) -> int | str:
    """How often a Loop runs, at least once; why that is not known."""
    count, going = const_of(node.inputs[0]), const_of(node.inputs[1])
    body = node.attributes["body"].as_graph()
    if (
        count is None
        or count.size != 1
        or (node.inputs[1] is not None and (going is None or not going.all()))
    ):
        return "how often it runs is computed"
    on: ir.Value | None = body.outputs[0]
    while (same := producer(on, "Identity")) is not None:
        on = same.inputs[0]
    stays = const_of(on)
    if on is not body.inputs[1] and (stays is None or not stays.all()):
        return "whether it goes on is computed"
    return int(count.reshape(-1)[0]) if count.reshape(-1)[0] > 0 else "it does not run"


def _unrolled(node: ir.Node, steps: int) -> Edit:
    make = Nodes(node_name(node))
    body = node.attributes["body"].as_graph()
    carried = list(node.inputs[2:])
    rows: list[list[ir.Value]] = []
    nodes: list[ir.Node] = []
    weights: list[ir.Value] = []
    goes = make.constant(True, bool, "goes-on")
    for step in range(steps):
        number = make.constant(step, np.int64, f"{step}/step")
        made = body_of(body, [number, goes, *carried], f"{make.base}/{step}")
        for first, again in zip(weights, made.initializers, strict=False):
            for user, index in tuple(again.uses()):
                user.replace_input_with(index, first)
        weights = weights or made.initializers
        nodes += made.nodes
        carried, scanned = list(made.outputs[1 : 1 + len(carried)]), made.outputs[1 + len(carried) :]
        rows.append(scanned)
    first_axis = make.constant([0], np.int64, "first-axis")
    stacked = [_stacked(make, list(parts), first_axis) for parts in zip(*rows, strict=True)]
    nodes += make.nodes
    whole = Body(nodes, [*weights, *make.initializers], [v for v in (*carried, *stacked) if v is not None])
    replace = passed(whole, node.outputs)
    used = {value for one in whole.nodes for value in one.inputs} | {
        v for g in _inner(whole.nodes) for v in g
    }
    kept = [value for value in whole.initializers if value in used or value in replace.values()]
    return Edit(f"{steps} steps", [node], whole.nodes, replace, initializers=kept)


def _inner(nodes: list[ir.Node]) -> Iterator[tuple[ir.Value | None, ...]]:
    for node in nodes:
        for attribute in node.attributes.values():
            if attribute.type == ir.AttributeType.GRAPH:
                yield from (tuple(inner.inputs) for inner in attribute.as_graph().all_nodes())


def _stacked(make: Nodes, parts: list[ir.Value], first_axis: ir.Value) -> ir.Value:
    rows = [make.op("Unsqueeze", [part, first_axis], f"{part.name}/row", dtype=part.dtype) for part in parts]
    return (
        rows[0]
        if len(rows) == 1
        else make.op("Concat", rows, f"{parts[0].name}/rows", dtype=parts[0].dtype, axis=0)
    )
