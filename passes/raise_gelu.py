"""raise-gelu: the Gaussian error linear unit, spelled out, becomes one operator."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from graphopt.ir import (
    constant_factor,
    either_order,
    leak,
    only_user,
    producer,
    scalar_operand,
    wrong_constant,
)
from graphopt.pipeline import Context, Contract, Edit, Edits, Level, NearMiss, OpsetRange, Pass, Trail


class RaiseGelu(Pass):
    """GELU by erf or by tanh becomes Gelu (Hendrycks and Gimpel 2016, arXiv 1606.08415).

    Before: x * 0.5 * (1 + Erf(x / sqrt(2))), the three factors multiplied in any order
    After:  Gelu(x)
    Before: x * 0.5 * (1 + Tanh(sqrt(2 / pi) * (x + 0.044715 * x^3))), x^3 as Pow or as products;
            or Tanh(sqrt(2 / pi) * x * (1 + 0.044715 * x * x))
    After:  Gelu(x), approximate = tanh
    Refuses: constants off by more than 1e-3 of their value; inner values with another use.
    """

    name: ClassVar[str] = "raise-gelu"
    level: ClassVar[Level] = Level.RAISE
    contract: ClassVar[Contract] = Contract.reassociates()
    opsets: ClassVar[OpsetRange] = OpsetRange(20, None)

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        told: set[ir.Node] = set()
        for node in graph:
            if node.op_type != "Mul" or node.domain != "":
                continue
            found = _gelu(node)
            if found is not None:
                told.add(node)
            if isinstance(found, str):
                yield NearMiss(node.name or "Mul", found)
            elif found is not None:
                tape = ir.tape.Tape()
                attributes = {"approximate": found.approximate}
                y = tape.op("Gelu", [found.x], attributes, name=f"{node.name}/gelu")
                yield Edit("Gelu", remove=found.nodes, insert=tape.nodes, replace={node.outputs[0]: y})
        yield from _TRAIL.near_misses(graph, told)


@dataclass
class _Gelu:
    x: ir.Value
    approximate: str
    nodes: list[ir.Node]


def _gelu(product: ir.Node) -> _Gelu | str | None:
    factors = _Factors.of(product)
    gates = [(f, g) for f in factors.values if (g := _gate(f)) is not None]
    if len(gates) != 1:
        return None
    gate_value, (add, inner, one) = gates[0]
    rest = [f for f in factors.values if f is not gate_value]
    if len(rest) != 1 or factors.constant is None:
        user = only_user(product.outputs[0])
        whole = inner.op_type == "Erf" and (user is None or user.op_type != "Mul")
        return "1 + erf(..) is not multiplied with one value and a number" if whole else None
    x = rest[0]
    argument = _erf_argument(inner, x) if inner.op_type == "Erf" else _tanh_argument(inner, x)
    if isinstance(argument, str):
        return argument
    nodes = list(dict.fromkeys([*factors.nodes, add, inner, *argument]))
    reason = (
        wrong_constant("the addend", one, 1)
        or wrong_constant("the factor", factors.constant, 0.5)
        or leak(nodes)
    )
    return reason or _Gelu(x, "none" if inner.op_type == "Erf" else "tanh", nodes)


@dataclass
class _Factors:
    """What a nest of products multiplies; `constant` is the product of the numbers, None if there is none."""

    values: list[ir.Value]
    constant: float | None
    nodes: list[ir.Node]

    @classmethod
    def of(cls, product: ir.Node, deepest: int = 4) -> _Factors:
        found = cls([], None, [product])
        pending = [*either_order(product)][:1]
        while pending:
            for value, other in (pending[-1], pending.pop()[::-1]):
                factor = scalar_operand(value, other)
                inner = producer(value, "Mul")
                if factor is not None:
                    found.constant = factor * (1.0 if found.constant is None else found.constant)
                elif inner is not None and len(found.nodes) < deepest and only_user(value) is not None:
                    found.nodes.append(inner)
                    pending += [*either_order(inner)][:1]
                else:
                    found.values.append(value)
        return found


def _gate(value: ir.Value) -> tuple[ir.Node, ir.Node, float] | None:
    """The nodes of Add(Erf(..), constant) or Add(Tanh(..), constant), and the constant."""
    add = producer(value, "Add")
    for term, one in either_order(add) if add is not None else ():
        inner = producer(term, "Erf") or producer(term, "Tanh")
        constant = scalar_operand(one, term)
        if add is not None and inner is not None and constant is not None:
            return add, inner, constant
    return None


def _is_anchor(node: ir.Node) -> bool:
    """An Erf, or the Tanh of a product with a sum, as that of x and its cube is."""
    if node.op_type == "Erf":
        return True
    product = producer(node.inputs[0], "Mul") if node.op_type == "Tanh" else None
    return product is not None and any(
        value is not None and (producer(value, "Add") or producer(value, "Mul")) for value in product.inputs
    )


_TRAIL = Trail(
    _is_anchor,
    (("Add",), ("Mul",)),
    "its sum is not with a number, or not multiplied with one value and a number",
)


def _erf_argument(erf: ir.Node, x: ir.Value) -> list[ir.Node] | str:
    found = constant_factor(erf.inputs[0])
    if found is None or found[1] is not x:
        return f"erf is not of a number times {x.name!r}, which it is multiplied with"
    return wrong_constant("the factor inside erf", found[0], math.sqrt(0.5), "1 / sqrt(2)") or [found[2]]


_NO_CUBE = "what tanh is taken of is not a number times x + 0.044715 x^3"


def _tanh_argument(tanh: ir.Node, x: ir.Value) -> list[ir.Node] | str:
    product = producer(tanh.inputs[0], "Mul")
    if product is None:
        return _NO_CUBE
    outer = _Factors.of(product)
    if outer.constant is None or len(outer.values) > 2:
        return _NO_CUBE
    rest = [v for v in outer.values if v is not x]
    inner = _cubic(rest[0], x, times_x=len(outer.values) == 2) if len(rest) == 1 else None
    if inner is None:
        return _NO_CUBE
    factor, nodes = inner
    return (
        wrong_constant("the factor inside tanh", outer.constant, math.sqrt(2 / math.pi), "sqrt(2 / pi)")
        or wrong_constant("the factor of the cube", factor, 0.044715)
        or [*outer.nodes, *nodes]
    )


def _cubic(value: ir.Value, x: ir.Value, *, times_x: bool) -> tuple[float, list[ir.Node]] | None:
    """c and the nodes where `value` is x + c x^3, or 1 + c x^2 if x is multiplied with it outside."""
    add = producer(value, "Add")
    for first, second in either_order(add) if add is not None else ():
        if (scalar_operand(first, second) != 1.0) if times_x else (first is not x):
            continue
        found = _power(second, x)
        if add is not None and found is not None and found[1] == (2 if times_x else 3):
            return found[0], [add, *found[2]]
    return None


def _power(value: ir.Value, x: ir.Value) -> tuple[float, float, list[ir.Node]] | None:
    """c, n and the nodes where `value` is c x^n, spelled with products and powers of x."""
    product = producer(value, "Mul")
    factors = _Factors.of(product) if product is not None else _Factors([value], None, [])
    nodes, exponent = list(factors.nodes), 0.0
    for factor in factors.values:
        power = producer(factor, "Pow")
        if factor is x:
            exponent += 1
        elif power is not None and power.inputs[0] is x:
            exponent += scalar_operand(power.inputs[1], x) or 0.0
            nodes.append(power)
        else:
            return None
    return 1.0 if factors.constant is None else factors.constant, exponent, nodes
