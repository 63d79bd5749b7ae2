"""Which products do too much damage in integers for the time that they save."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from graphopt.calibrate import Branches
from graphopt.ir import evaluate
from graphopt.metrics import cosine_similarity
from graphopt.pipeline import Edit
from graphopt.targets import Target

from ._ends import ends_of
from ._placement import Taken

__all__ = ["Damage", "Saved", "damages", "worst"]

Array = NDArray[Any]
Damage = Mapping[ir.Value, float]
"""What a product alone does to each value in which it shows."""
_TOGETHER = "all"
"""The name of the branch in which every product is changed."""
_LEAST = 1e-9
"""Of seconds: what saves nothing is the first to stay in floats."""


def damages(
    graph: ir.Graph,
    calls: Iterable[Mapping[str, Array]],
    products: Sequence[Taken],
    edit: Callable[[Taken], Edit],
    opset: int,
    watch: Callable[[Sequence[Taken]], Iterable[Taken]],
    saved: Saved,
) -> dict[ir.Node, Damage]:
    """What the `edit` of each product does to each of its `ends_of`: 1 less the mean cosine of a sample.

    It is the product's share, by what it does alone, of what all of them do together: that is less than the
    sum where a deep net is full of noise already. `saved` is told the shapes that products have. Of products
    that show nowhere nothing is said.
    """
    ends = {taken.node: ends_of((taken.absorbed or taken.node), graph) for taken in products}
    every = list(dict.fromkeys(end for found in ends.values() for end in found))
    measured = [taken for taken in products if ends[taken.node]]
    branches = Branches(graph, calls, every)
    for taken in watch(measured):
        x, y = taken.node.inputs[0], taken.outputs[0]
        assert x is not None
        branches.advance([x] if taken is measured[-1] else [x, y])
        saved.shapes[taken.node] = _one(x, branches.values(x)[0].shape)
        made = _made(edit(taken), x, y, opset)
        branches.change(taken.node, y, made, x)
        branches.change(_TOGETHER, y, made, x)
    found = branches.compared(lambda arrays: arrays, _damage)
    means = {name: dict(zip(every, np.mean(calls, 0), strict=True)) for name, calls in found.items()}
    alone = {
        taken.node: {end: float(means[taken.node][end]) for end in ends[taken.node]} for taken in measured
    }
    sums = {end: sum(shown.get(end, 0.0) for shown in alone.values()) for end in every}
    return {
        node: {
            end: one * (float(means[_TOGETHER][end]) / sums[end] if sums[end] > 0 else 1.0)
            for end, one in shown.items()
        }
        for node, shown in alone.items()
    }


def worst(damage: Mapping[ir.Node, Damage], limit: float, saved: Callable[[ir.Node], float]) -> list[ir.Node]:
    """Those without which the damage of the others adds up to no more than `limit` in every value.

    First are those that do the most, where it is too much, for the time that integers save.
    """
    kept, left = dict(damage), list[ir.Node]()
    while True:
        totals: dict[ir.Value, float] = defaultdict(float)
        for shown in kept.values():
            for end, amount in shown.items():
                totals[end] += amount
        over = [end for end, total in totals.items() if not total <= limit]
        if not over:
            return left
        node = max(kept, key=lambda node: max(kept[node].get(end, 0.0) for end in over) / saved(node))
        left.append(node)
        del kept[node]


class Saved:
    """How much time integers save for one sample, as the target measures it; multiplications where it cannot.

    Nothing is measured before it is asked for.
    """

    def __init__(self, target: Target | None, edit: Callable[[Taken], Edit], opset: int) -> None:
        self.shapes: dict[ir.Node, tuple[int, ...]] = {}
        self._target, self._edit, self._opset = target, edit, opset
        self._known: dict[Any, float] = {}

    def of(self, taken: Taken) -> float:
        """Seconds; of all products that are asked for, or of none."""
        shape = self.shapes[taken.node]
        weight = taken.node.inputs[1]
        assert weight is not None
        assert weight.const_value is not None
        attributes = sorted((name, str(value.value)) for name, value in taken.node.attributes.items())
        key = (taken.node.op_type, str(attributes), tuple(weight.const_value.shape), shape, taken.rounds)
        if key not in self._known:
            self._known[key] = max(_LEAST, self._measured(taken, shape))
        return self._known[key]

    def _measured(self, taken: Taken, shape: tuple[int, ...]) -> float:
        x, y = taken.node.inputs[0], taken.outputs[0]
        assert x is not None
        if self._target is None:
            return _multiplications(taken.node)
        edit = self._edit(taken)
        before = next(node for node in edit.insert if node.inputs[0] is x)
        after, entered, left = edit.replace[y].producer(), before.outputs[0], edit.replace[y]
        if taken.rounds and after is not None and after.inputs[0] is not None:
            left = after.inputs[0]
        nodes = [n for n in edit.insert if n is not before and (n is not after or left in n.outputs)]
        integers = _model(nodes, edit.initializers, entered, left, self._opset)
        widened = next(node for node in nodes if node.inputs[0] is entered)
        floats = _in_floats(taken, widened, edit.initializers, entered, self._opset)
        _forget(edit)
        found = [
            self._target.call_seconds(_channels_last(model), {"x": _drawn(entered, _turned(shape))})
            for model in (floats, integers)
        ]
        seconds, less = found
        return _multiplications(taken.node) if seconds is None or less is None else seconds - less


def _in_floats(
    taken: Taken, widened: ir.Node, initializers: Sequence[ir.Value], entered: ir.Value, opset: int
) -> ir.Model:
    """The product in floats behind integers, which `widened` reads. It ends in floats: between integers on
    both sides onnxruntime would round its weight."""
    inside = [taken.node] if taken.absorbed is None else [taken.node, taken.absorbed]
    made = [widened]
    for node in inside:
        made.append(_copied(node, made[-1].outputs[0]))
    used = [v for node in inside for v in node.inputs[1:] if v is not None and v.is_initializer()]
    model = _model(made, [*initializers, *used], entered, made[-1].outputs[0], opset)
    for node in made[1:]:
        for index in range(len(node.inputs)):
            node.replace_input_with(index, None)
    return model


def _copied(node: ir.Node, x: ir.Value) -> ir.Node:
    output = ir.Value(name=f"{node.outputs[0].name}/copy", type=node.outputs[0].type)
    attributes = node.attributes.values()
    return ir.Node(node.domain, node.op_type, [x, *node.inputs[1:]], attributes, outputs=[output])


def _turned(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The same with channels last."""
    return (shape[0], *shape[2:], shape[1])


def _channels_last(model: ir.Model) -> ir.Model:
    """The same from x to y whose channels are last, as integers are between kernels that want them so."""
    graph = model.graph
    x, y = graph.inputs[0], graph.outputs[0]
    rank = len(x.shape or ())
    first, last = (0, rank - 1, *range(1, rank - 1)), (0, *range(2, rank), 1)
    given = ir.Value(name="x", type=x.type, shape=ir.Shape([None] * rank))
    x.name = "turned"
    enter = ir.Node("", "Transpose", [given], [ir.AttrInt64s("perm", first)])
    leave = ir.Node("", "Transpose", [y], [ir.AttrInt64s("perm", last)])
    enter.outputs[0].name, leave.outputs[0].name = "first", "last"
    leave.outputs[0].type = y.type
    for node, index in tuple(x.uses()):
        node.replace_input_with(index, enter.outputs[0])
    graph.insert_before(graph.node(0), enter)
    graph.append(leave)
    graph.inputs[0], graph.outputs[0] = given, leave.outputs[0]
    return model


def _one(x: ir.Value, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The `shape` of x, of a single sample where it takes any number of them."""
    fixed = x.shape is not None and len(x.shape) > 0 and isinstance(x.shape[0], int)
    return shape if fixed else (1, *shape[1:])


def _drawn(value: ir.Value, shape: tuple[int, ...]) -> Array:
    rng = np.random.default_rng(0)
    if value.dtype in (ir.DataType.UINT8, ir.DataType.INT8):
        return rng.integers(0, 100, shape).astype(value.dtype.numpy())
    return rng.standard_normal(shape).astype(np.float32)


def _damage(expected: Sequence[Array], got: Sequence[Array]) -> list[float]:
    return [_of_samples(*pair) for pair in zip(expected, got, strict=True)]


def _of_samples(expected: Array, got: Array) -> float:
    """1 - cosine, the mean over samples, of which a value without a batch is one."""
    if not expected.size:
        return 0.0
    count = len(expected) if expected.ndim > 1 else 1
    rows = (array.reshape(count, -1) if array.size == expected.size else array for array in (expected, got))
    return 1.0 - float(cosine_similarity(*rows).mean())


def _multiplications(node: ir.Node) -> float:
    """Of one sample, as far as sizes are known."""
    weight = node.inputs[1]
    assert weight is not None
    assert weight.const_value is not None
    sizes = [d for d in list(node.outputs[0].shape or ())[2:] if isinstance(d, int)]
    return float(weight.const_value.size * prod(sizes))


def _made(edit: Edit, x: ir.Value, y: ir.Value, opset: int) -> Callable[[Array], Array]:
    """What the nodes of an edit, which is not applied, make of what x is."""
    model = _model(edit.insert, edit.initializers, x, edit.replace[y], opset)
    _forget(edit)
    return lambda array: evaluate(model, {"x": array})[0]


def _model(
    nodes: Sequence[ir.Node], initializers: Sequence[ir.Value], x: ir.Value, y: ir.Value, opset: int
) -> ir.Model:
    """The nodes from x, which is called so in it, to y."""
    view = ir.GraphView([x], [y], nodes=nodes, initializers=initializers, opset_imports={"": opset}, name="g")
    graph = view.clone()
    graph.inputs[0].name = "x"
    return ir.Model(graph, ir_version=10)


def _forget(edit: Edit) -> None:
    """Take the nodes of an edit that is not applied away from what they read."""
    for node in edit.insert:
        for index in range(len(node.inputs)):
            node.replace_input_with(index, None)
