"""What nodes cost one another is read off whole decoders that a profile has."""

from __future__ import annotations

import pytest

from graphopt.cost import Call, NodeWork, Product, Situation, call_of
from graphopt.cost._between import Between, _work
from graphopt.cost._rates import Taken
from graphopt.machine import DecoderRate, Profile
from tests.cost._machine import CACHE, model, near, profile

HERE = Situation(prompt=256, new=64)


def rate(layers: int, width: int, seconds: float) -> DecoderRate:
    return DecoderRate(
        layers=layers,
        width=width,
        inner=4 * width,
        heads=width // 64,
        kv_heads=4,
        head_size=64,
        vocabulary=1024,
        bits=4,
        block=128,
        past=64,
        threads=1,
        seconds=near(seconds),
    )


def machine(each: float, longer: float, cached: float) -> Profile:
    """One on which decoders take so much longer than their nodes."""
    alone = profile()
    found = []
    for layers, width, is_cached in ((48, 512, False), (8, 2048, False), (2, 256, True)):
        one = rate(layers, width, 1.0)
        step = call_of(_work(one), alone, Call(1, 1, one.past), HERE)
        count = sum(node.product is not None or node.attention is not None for node in _work(one).nodes)
        reading = 0.0 if is_cached else sum(part.bytes for part in step.parts.values()) / 20e9
        beyond = count * (cached if is_cached else each) + longer * reading
        found.append(rate(layers, width, step.seconds.value + beyond))
    return profile(decoders=tuple(found))


def test_a_part_for_each_node_and_one_by_what_is_read_are_told_apart() -> None:
    found = Between.of(machine(4e-6, 0.1, 1e-6), 1)
    assert found.each == pytest.approx(4e-6, rel=0.05)
    assert found.reading == pytest.approx(0.1, rel=0.1)
    assert found.cached == pytest.approx(1e-6, rel=0.05)


def test_a_decoder_that_was_measured_is_given_back() -> None:
    there = machine(4e-6, 0.1, 1e-6)
    for one in there.decoders:
        step = call_of(_work(one), there, Call(1, 1, one.past), HERE)
        assert step.seconds.value == pytest.approx(one.seconds.value, rel=0.01)


def test_nodes_take_longer_in_a_model() -> None:
    machines = (profile(), machine(4e-6, 0, 0))
    alone, there = (call_of(model(), one, Call(1, 1, 256), HERE).seconds.value for one in machines)
    nodes = sum(node.product is not None or node.attention is not None for node in model().nodes)
    assert there - alone == pytest.approx(nodes * 4e-6, rel=0.1)


def test_decoders_that_are_faster_than_their_nodes_change_nothing() -> None:
    one = rate(8, 2048, 8 * 2048 / CACHE)
    assert Between.of(profile(decoders=(one,)), 1) == Between()


def test_without_decoders_nothing_is_added() -> None:
    assert Between.of(profile(), 1) == Between()


def test_of_floats_out_of_memory_nothing_is_felt() -> None:
    found = Between(each=4e-6, reading=0.1, cached=1e-6)
    taken = Taken(1e-3, 0.1, 8e-4, 1e7, 1e7, "")
    blocks, floats = (
        NodeWork("p", "MatMul", "product", (), product=Product("w", 64, 64, bits, 32, zeros=False, bytes=1))
        for bits in (4, 32)
    )
    assert found.taken([(blocks, taken)], 1.0, 1.0).seconds == pytest.approx(4e-6 + 0.1 * 8e-4)
    assert found.taken([(floats, taken)], 1.0, 1.0).seconds == 0.0
    assert found.taken([(floats, taken)], 0.0, 1.0).seconds == 1e-6
    assert found.taken([(floats, taken)], 0.0, 1.5).seconds == 1.5e-6
