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
    """1 less the mean cosine of a sample in each of `ends_of` a product, it alone being what `edit` makes.

    `saved` is told the shapes that products have. Of products that show nowhere nothing is said.
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
        branches.change(taken.node, y, _made(edit(taken), x, y, opset), x)
    found = branches.compared(lambda arrays: arrays, _damage)
    places = {end: place for place, end in enumerate(every)}
    return {
        taken.node: {
            end: float(np.mean([call[places[end]] for call in found[taken.node]])) for end in ends[taken.node]
        }
        for taken in measured
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
        inside = [taken.node] if taken.absorbed is None else [taken.node, taken.absorbed]
        used = [v for node in inside for v in node.inputs if v is not None and v.is_initializer()]
        floats = _model(inside, used, x, y, self._opset)
        seconds = self._target.call_seconds(floats, {"x": _drawn(x, shape)})
        if seconds is None:
            return _multiplications(taken.node)
        edit = self._edit(taken)
        before = next(node for node in edit.insert if node.inputs[0] is x)
        after, entered, left = edit.replace[y].producer(), before.outputs[0], edit.replace[y]
        if taken.rounds and after is not None and after.inputs[0] is not None:
            left = after.inputs[0]
        nodes = [n for n in edit.insert if n is not before and (n is not after or left in n.outputs)]
        integers = _model(nodes, edit.initializers, entered, left, self._opset)
        _forget(edit)
        less = self._target.call_seconds(integers, {"x": _drawn(entered, shape)})
        return seconds - (less or 0.0)


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
