"""What a runtime leaves in floats between integers is found and has a name and a reason."""

from __future__ import annotations

from graphopt.evaluate import FloatIsland, counted, float_islands, said_of
from graphopt.targets import LoadedKind, LoadedNode


def node(operator: str, inputs: str, outputs: str, kind: LoadedKind, name: str = "") -> LoadedNode:
    return LoadedNode(name or operator.lower(), operator, tuple(inputs.split()), tuple(outputs.split()), kind)


NODES = [
    node("Conv", "x", "a", "floats", "first"),
    node("QuantizeLinear", "a", "b", "rounds"),
    node("QLinearConv", "b", "c", "integers"),
    node("DequantizeLinear", "c", "d", "widens"),
    node("Erf", "d", "e", "floats"),
    node("Sin", "d", "f", "floats"),
    node("Add", "e f", "g", "floats", "fused by the runtime"),
    node("Shape", "g", "n", "other"),
    node("QuantizeLinear", "g", "h", "rounds"),
    node("QLinearConv", "h", "i", "integers"),
    node("DequantizeLinear", "i", "y", "widens"),
    node("Exp", "z", "u", "floats", "apart"),
]
MAKERS = {"a": "first", "e": "erf", "f": "sin", "g": "sum", "u": "apart"}


def test_nodes_that_feed_each_other_are_one_island() -> None:
    reasons = {"first": "it is the first", "sum": "no kernel", "apart": "never"}
    assert float_islands(NODES, MAKERS, reasons) == (
        FloatIsland(("first",), ("Conv",), "it is the first"),
        FloatIsland(("erf", "sin", "sum"), ("Erf", "Sin", "Add"), "no kernel"),
    )


def test_without_a_reason_it_is_the_runtimes() -> None:
    found = float_islands(NODES, MAKERS, {})
    assert {island.reason for island in found} == {"the runtime computes it in floats"}
    assert [*said_of(found)] == [
        "In floats beside integers: 1 Add, 1 Conv, 1 Erf, 1 Sin, from 'first' on: the runtime computes it in "
        "floats."
    ]


def test_what_knows_no_integers_has_no_islands() -> None:
    assert float_islands([node("Conv", "x", "a", "floats"), node("Exp", "a", "y", "floats")], {}, {}) == ()


def test_operators_are_counted() -> None:
    assert counted(NODES[:5]) == "1 Conv, 1 DequantizeLinear, 1 Erf, 1 QLinearConv, 1 QuantizeLinear"
