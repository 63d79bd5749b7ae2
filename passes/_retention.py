"""Which products do too much damage in integers for the time that they save."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from graphopt.calibrate import Branches
from graphopt.ir import evaluate, used_values
from graphopt.metrics import cosine_similarity
from graphopt.pipeline import Edit

from ._placement import Taken

__all__ = ["damages", "worst"]

Array = NDArray[Any]


def damages(
    graph: ir.Graph,
    calls: Iterable[Mapping[str, Array]],
    products: Sequence[Taken],
    edit: Callable[[Taken], Edit],
    opset: int,
    watch: Callable[[Sequence[Taken]], Iterable[Taken]],
) -> dict[ir.Node, float]:
    """1 less the mean cosine of the first output's rows, where one of `products` alone is what `edit` makes.

    Of products that the first output does not depend on nothing is said.
    """
    output = graph.outputs[0]
    behind = _upstream(output)
    measured = [taken for taken in products if taken.node in behind]
    branches = Branches(graph, calls, [output])
    for taken in watch(measured):
        x, y = taken.node.inputs[0], taken.outputs[0]
        assert x is not None
        branches.advance([x] if taken is measured[-1] else [x, y])
        branches.change(taken.node, y, _made(edit(taken), x, y, opset), x)
    found = branches.compared(lambda array: array, _damage)
    return {taken.node: float(np.mean(found[taken.node])) for taken in measured}


def worst(damage: Mapping[ir.Node, float], limit: float) -> list[ir.Node]:
    """Those without which the damage of the others adds up to no more than `limit`.

    First are those that do the most for each multiplication that integers save.
    """
    left, total = [], sum(damage.values())
    for node in sorted(damage, key=lambda node: -damage[node] / _multiplications(node)):
        if total <= limit:
            break
        left.append(node)
        total -= damage[node]
    return left


def _damage(expected: Array, got: Array) -> float:
    rows = (array.reshape(len(array), -1) for array in (expected, got))
    return 1.0 - float(cosine_similarity(*rows).mean())


def _multiplications(node: ir.Node) -> int:
    """Of one sample, as far as sizes are known."""
    weight = node.inputs[1]
    assert weight is not None
    assert weight.const_value is not None
    sizes = [d for d in list(node.outputs[0].shape or ())[2:] if isinstance(d, int)]
    return int(weight.const_value.size) * prod(sizes)


def _made(edit: Edit, x: ir.Value, y: ir.Value, opset: int) -> Callable[[Array], Array]:
    """What the nodes of an edit, which is not applied, make of what x is."""
    view = ir.GraphView(
        [x],
        [edit.replace[y]],
        nodes=edit.insert,
        initializers=edit.initializers,
        opset_imports={"": opset},
        name="g",
    )
    graph = view.clone()
    graph.inputs[0].name = "x"
    for node in edit.insert:  # or they would stay users of x
        for index in range(len(node.inputs)):
            node.replace_input_with(index, None)
    model = ir.Model(graph, ir_version=10)
    return lambda array: evaluate(model, {"x": array})[0]


def _upstream(value: ir.Value) -> set[ir.Node]:
    found: set[ir.Node] = set()
    stack = [value]
    while stack:
        node = stack.pop().producer()
        if node is not None and node not in found:
            found.add(node)
            stack.extend(used_values(node))
    return found
