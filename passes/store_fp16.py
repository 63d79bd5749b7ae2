"""store-fp16: weights are stored in half precision and computed with in single."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from graphopt.ir import Cast, LazyTensor, has_data, initializer, lazy, name_matches, tiles
from graphopt.pipeline import Context, Contract, Edit, Edits, Level, NearMiss, Nodes, Pass

_LARGEST = 65504.0  # float16's largest number
_STEP = 2.0**-24
"""What float16's smallest numbers are multiples of."""
_NOISE = 10 ** (-60 / 20)
"""What rounding may take of a weight: 10 dB less than the contract allows of a result."""


class StoreFp16(Pass):
    """A large float32 weight becomes a float16 one and a Cast, which the runtime does once, at load.

    Before: MatMul(x, W) with W float32; Gather(W, ids)
    After:  MatMul(x, Cast(W16 to float32)); Cast(Gather(W16, ids) to float32)
    Halves the file, and the table of an embedding in memory too. On CPU the sums stay in float32: only the
    weights are rounded (11 bits of mantissa), and those that came from bfloat16 are not.
    Refuses: weights below `smallest` bytes, without data, in half precision already, with entries beyond
    float16's range, or as a whole so small that its steps of 6e-8 are too coarse; names that `exclude`
    matches.
    """

    name: ClassVar[str] = "store-fp16"
    level: ClassVar[Level] = Level.COMPRESS
    contract: ClassVar[Contract] = Contract.lossy("sqnr", 50.0)

    @dataclass(frozen=True)
    class Options:
        """smallest: bytes below which a weight stays as it is; exclude: globs over weight names, separated by
        commas.
        """

        smallest: int = 4096
        exclude: str = ""

    def form(self, name: str, k: int, n: int, *, looked_up: bool = False, experts: int = 1) -> str | None:
        large = 4 * k * n * experts >= self.options.smallest
        return "16" if large and not name_matches(name, self.options.exclude) else None

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        for value in tuple(graph.initializers.values()):
            tensor = value.const_value
            if tensor is None or tensor.nbytes < self.options.smallest:
                continue
            if value.is_graph_input() or value.is_graph_output() or not value.uses() or not has_data(tensor):
                continue
            name = value.name or "weight"
            if tensor.dtype in (ir.DataType.FLOAT16, ir.DataType.BFLOAT16):
                yield NearMiss(name, "it is in half precision already")
            elif tensor.dtype != ir.DataType.FLOAT:
                continue
            elif name_matches(name, self.options.exclude):
                yield NearMiss(name, "it is left out by name")
            elif reason := _unfit(tensor):
                yield NearMiss(name, reason)
            else:
                yield _halved(graph, value, tensor)


def _unfit(tensor: ir.TensorProtocol) -> str | None:
    energy = 0.0
    for _, block in tiles(lazy(tensor)):
        if not (block.max(initial=0) <= _LARGEST and block.min(initial=0) >= -_LARGEST):
            return "it has entries beyond float16's range"
        flat = block.reshape(-1).astype(np.float64)
        energy += float(flat @ flat)
    size = math.sqrt(energy / max(tensor.size, 1))
    if 0 < size * _NOISE < _STEP / math.sqrt(12):
        return f"its entries, about {size:.1g}, are too small for float16, whose steps are 6e-08 there"
    return None


def _halved(graph: ir.Graph, value: ir.Value, tensor: ir.TensorProtocol) -> Edit:
    half = initializer(f"{value.name}/fp16", LazyTensor(Cast(lazy(tensor), ir.DataType.FLOAT16)))
    lookups = [
        user
        for user, index in value.uses()
        if user.op_type == "Gather" and user.domain == "" and index == 0 and user.graph is graph
    ]
    replace: dict[ir.Value, ir.Value] = {}
    nodes: list[ir.Node] = []
    for node in lookups:
        new, old = Nodes(node.name or "Gather"), node.outputs[0]
        axis = node.attributes.get_int("axis", 0)
        inputs = [half, node.inputs[1]]
        rows = new.op("Gather", inputs, "fp16", like=old, dtype=ir.DataType.FLOAT16, axis=axis)
        replace[old] = new.op("Cast", [rows], "wide", like=old, to=ir.DataType.FLOAT)
        nodes += new.nodes
    if len(lookups) < len(value.uses()):
        new = Nodes(value.name or "weight")
        replace[value] = new.op("Cast", [half], "wide", like=value, to=ir.DataType.FLOAT)
        nodes += new.nodes
    return Edit(
        f"{value.name} in half precision",
        remove=lookups,
        insert=nodes,
        initializers=[half],
        drop_initializers=[value],
        replace=replace,
        before=next(iter(graph), None),
    )
