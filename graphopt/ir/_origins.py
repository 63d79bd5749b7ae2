"""What a value is made from."""

from __future__ import annotations

import onnx_ir as ir

from graphopt.ir._evaluate import used_values

__all__ = ["Ancestors", "from_shapes"]


class Ancestors:
    """The nodes that take part in making a value, remembered for values that are asked for again."""

    def __init__(self) -> None:
        self._known: dict[ir.Value, set[ir.Node]] = {}

    def of(self, value: ir.Value) -> set[ir.Node]:
        if value not in self._known:
            seen: set[ir.Node] = set()
            stack = [value.producer()]
            while stack:
                node = stack.pop()
                if node is not None and node not in seen:
                    seen.add(node)
                    stack.extend(v.producer() for v in node.inputs if v is not None)
            self._known[value] = seen
        return self._known[value]


def from_shapes(value: ir.Value | None) -> bool:
    """Whether `value` follows from constants and shapes of other values alone: no input says what it is."""
    seen: set[ir.Value] = set()
    stack = [value]
    while stack:
        top = stack.pop()
        if top is None or top in seen:
            continue
        seen.add(top)
        node = top.producer()
        if node is None:
            if top.is_graph_input() or not top.is_initializer():
                return False
        elif node.domain or node.op_type not in ("Shape", "Size"):
            stack.extend(used_values(node))
    return True
