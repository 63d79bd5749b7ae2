"""How long packages take to load."""

from __future__ import annotations

from dataclasses import replace

import pytest

from graphopt.cost import GraphWork, NodeWork, Product, Result, Use, Weight
from graphopt.cost._load import load_time
from tests.cost._machine import graph, near, product

SESSION, OPENING = near(1e-3), near(1e-10)


def floats(k: int, n: int, *, turned: bool) -> GraphWork:
    about = Product("w", k, n, 32, 0, zeros=False, bytes=4 * k * n)
    node = NodeWork("p", "MatMul", "product", (Result("p", (n,), 32),), (), (Use("w", 4 * k * n),), about)
    weight = Weight("w", (n, k) if turned else (k, n), 32, 4 * k * n)
    return replace(graph(node), weights=(weight,))


def test_weights_in_blocks_take_as_long_whatever_their_size() -> None:
    few, many, large = (
        load_time(graph(*(product(f"w{i}", k, 512) for i in range(count))), SESSION, OPENING).value
        for count, k in ((10, 512), (20, 512), (20, 4096))
    )
    assert many == large
    assert many - few == pytest.approx(10 * 2048 * 2048 * 4.25 / 8 * 1e-10)


def test_experts_are_packed_by_the_byte() -> None:
    one = product("w", 512, 512)
    assert one.product is not None
    experts = replace(one, product=replace(one.product, experts=8, chosen=2, bytes=8 * one.product.bytes))
    alone, all_of_them = (load_time(graph(node), SESSION, OPENING).value for node in (one, experts))
    mapped = 2048 * 2048 * 4.25 / 8 * 1e-10
    assert all_of_them - alone == pytest.approx(8 * one.product.bytes * 1.1e-9 + 2e-5 - mapped)


def test_floats_that_lie_turned_take_longest() -> None:
    straight, turned = (load_time(floats(1024, 4096, turned=t), SESSION, OPENING) for t in (False, True))
    assert turned.value - straight.value == pytest.approx(4 * 1024 * 4096 * 5e-9)
    assert turned.high / turned.low > straight.high / straight.low > 1
