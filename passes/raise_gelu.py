"""raise-gelu: the Gaussian error linear unit, spelled out, becomes one operator."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from graphopt.ir import producer, scalar_of
from graphopt.pipeline import Context, Contract, Edit, Edits, Level, NearMiss, OpsetRange, Pass

_TOLERANCE = 1e-3


class RaiseGelu(Pass):
    """GELU by erf or by tanh becomes Gelu (Hendrycks and Gimpel 2016, arXiv 1606.08415).

    Before: x * 0.5 * (1 + Erf(x / sqrt(2))), the three factors multiplied in any order
    After:  Gelu(x)
    Before: x * 0.5 * (1 + Tanh(sqrt(2 / pi) * (x + 0.044715 * x^3))), x^3 as Pow or as products
    After:  Gelu(x), approximate = tanh
    Refuses: constants off by more than 1e-3 of their value; inner values with another use.
    """

    name: ClassVar[str] = "raise-gelu"
    level: ClassVar[Level] = Level.RAISE
    contract: ClassVar[Contract] = Contract.reassociates()
    opsets: ClassVar[OpsetRange] = OpsetRange(20, None)

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        for node in graph:
            if node.op_type != "Mul" or node.domain != "":
                continue
            found = _gelu(node)
            if found is None:
                continue
            if isinstance(found, str):
                yield NearMiss(node.name or "Mul", found)
                continue
            tape = ir.tape.Tape()
            y = tape.op("Gelu", [found.x], {"approximate": found.approximate}, name=f"{node.name}/gelu")
            yield Edit("Gelu", remove=found.nodes, insert=tape.nodes, replace={node.outputs[0]: y})


@dataclass
class _Gelu:
    x: ir.Value
    approximate: str
    nodes: list[ir.Node]


def _gelu(root: ir.Node) -> _Gelu | str | None:
    factors, products = _factors(root)
    gates = [(f, add) for f in factors if (add := producer(f, "Add")) is not None and _gate(add) is not None]
    if len(gates) != 1:
        return None
    gate_value, add = gates[0]
    gate = _gate(add)
    assert gate is not None
    inner, one = gate
    rest = [f for f in factors if f is not gate_value]
    constants = [c for f in rest if (c := scalar_of(f)) is not None]
    variables = [f for f in rest if scalar_of(f) is None]
    if len(variables) != 1:
        return None
    x = variables[0]
    half = math.prod(constants)
    argument = _erf_argument(inner, x) if inner.op_type == "Erf" else _tanh_argument(inner, x)
    if argument is None:
        return None
    if isinstance(argument, str):
        return argument
    if not _close(one, 1.0):
        return f"the addend is {one}, not 1"
    if not _close(half, 0.5):
        return f"the factor is {half}, not 0.5"
    nodes = [*products, add, inner, *argument]
    unique = list(dict.fromkeys(nodes))
    for node in unique[1:]:
        if any(o.is_graph_output() or any(u not in unique for u, _ in o.uses()) for o in node.outputs):
            return "an inner value has another use"
    return _Gelu(x, "none" if inner.op_type == "Erf" else "tanh", unique)


def _factors(root: ir.Node) -> tuple[list[ir.Value], list[ir.Node]]:
    """What a nest of products multiplies, at most two deep, and the Mul nodes themselves."""
    factors: list[ir.Value] = []
    nodes = [root]
    for value in root.inputs:
        inner = producer(value, "Mul")
        if inner is not None and value is not None and len(value.uses()) == 1 and len(nodes) < 3:
            nodes.append(inner)
            factors += [v for v in inner.inputs if v is not None]
        elif value is not None:
            factors.append(value)
    return factors, nodes


def _gate(add: ir.Node) -> tuple[ir.Node, float] | None:
    """Erf or Tanh, and the constant added to it."""
    for value, one in (tuple(add.inputs), tuple(reversed(add.inputs))):
        inner = producer(value, "Erf") or producer(value, "Tanh")
        constant = scalar_of(one)
        if inner is not None and constant is not None:
            return inner, constant
    return None


def _erf_argument(erf: ir.Node, x: ir.Value) -> list[ir.Node] | str | None:
    scaled = _scaled(erf.inputs[0])
    if scaled is None or scaled[1] is not x:
        return None
    factor, _, node = scaled
    return [node] if _close(factor, math.sqrt(0.5)) else f"erf is of {factor} x, not of x / sqrt(2)"


def _tanh_argument(tanh: ir.Node, x: ir.Value) -> list[ir.Node] | str | None:
    scaled = _scaled(tanh.inputs[0])
    if scaled is None:
        return None
    factor, inner, node = scaled
    add = producer(inner, "Add")
    if add is None:
        return None
    for left, right in (tuple(add.inputs), tuple(reversed(add.inputs))):
        cubic = _scaled(right)
        if left is not x or cubic is None:
            continue
        cube = _cube(cubic[1], x)
        if cube is None:
            continue
        if not _close(factor, math.sqrt(2 / math.pi)):
            return f"tanh's factor is {factor}, not sqrt(2 / pi)"
        if not _close(cubic[0], 0.044715):
            return f"the cubic factor is {cubic[0]}, not 0.044715"
        return [node, add, cubic[2], *cube]
    return None


def _cube(value: ir.Value, x: ir.Value) -> list[ir.Node] | None:
    power = producer(value, "Pow")
    if power is not None:
        return [power] if power.inputs[0] is x and scalar_of(power.inputs[1]) == 3.0 else None
    outer = producer(value, "Mul")
    if outer is None:
        return None
    for square_value, other in (tuple(outer.inputs), tuple(reversed(outer.inputs))):
        square = producer(square_value, "Mul") or producer(square_value, "Pow")
        if square is None or other is not x or square.inputs[0] is not x:
            continue
        if square.op_type == "Pow" and scalar_of(square.inputs[1]) == 2.0:
            return [outer, square]
        if square.op_type == "Mul" and square.inputs[1] is x:
            return [outer, square]
    return None


def _scaled(value: ir.Value | None) -> tuple[float, ir.Value, ir.Node] | None:
    node = producer(value, "Mul") or producer(value, "Div")
    if node is None:
        return None
    left, right = node.inputs
    factor = scalar_of(right)
    if factor is not None and left is not None:
        return (1 / factor if node.op_type == "Div" else factor), left, node
    factor = scalar_of(left)
    if factor is not None and right is not None and node.op_type == "Mul":
        return factor, right, node
    return None


def _close(value: float, wanted: float) -> bool:
    return abs(value - wanted) <= _TOLERANCE * abs(wanted)
