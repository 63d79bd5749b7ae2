"""Which nodes cost nothing where our own kernels take them along."""

from __future__ import annotations

from dataclasses import replace

import pytest

from graphopt.cost import GraphWork, NodeWork
from graphopt.cost._joined import joined
from tests.cost._machine import graph, other, product

OURS = {"kernels": "graphopt-avx2"}


def gated(operator: str = "QuickGelu", width: int = 512) -> GraphWork:
    gate, up = (replace(product(name, 256, n), operands=("x",)) for name, n in (("gate", 512), ("up", width)))
    silu = replace(other("silu", operator, 512), operands=("gate",))
    return graph(gate, up, silu, replace(other("y", "Mul", 512), operands=("silu", "up")))


def names(nodes: tuple[NodeWork, ...]) -> list[str]:
    return [node.name for node in nodes]


def test_silu_and_multiplication_are_part_of_the_products() -> None:
    assert names(joined(gated(), OURS)) == ["gate", "up"]


@pytest.mark.parametrize(
    ("work", "identity"),
    [
        (gated(), {"kernels": "onnxruntime"}),
        (gated(), {}),
        (gated("Relu"), OURS),
        (gated(width=256), OURS),
        (replace(gated(), outputs=("silu",)), OURS),
    ],
)
def test_what_they_do_not_take_is_left(work: GraphWork, identity: dict[str, str]) -> None:
    assert len(joined(work, identity)) == 4
