"""Times are sums of what a profile says of nodes, and say how sure they are."""

from __future__ import annotations

from dataclasses import replace

import pytest

from graphopt.cost import Call, Heads, NodeWork, Product, Situation, call_of, predict, product_seconds
from graphopt.cost._tables import Sizes
from graphopt.machine import Interval, Profile, SetRate, Tier
from tests.cost._machine import (
    CACHE,
    MEMORY,
    attended,
    attention,
    graph,
    model,
    near,
    other,
    product,
    products,
    profile,
    seconds,
)

HERE = Situation(prompt=256, new=64)


def width(interval: Interval) -> float:
    return interval.high / interval.low


def test_a_step_is_the_sum_of_its_nodes() -> None:
    work, call = model(), Call(1, 1, 256)
    whole = call_of(work, profile(), call, HERE)
    size = sum(n.product.bytes for n in work.nodes if n.product)
    nodes = 2e-6 * sum(n.product is not None for n in work.nodes) + 8 * attended(16, 64, 256, 1, 1)
    expected = size / MEMORY + nodes + 8 * (2e-6 + 1024e-9) + 1e-5
    assert whole.seconds.value == pytest.approx(expected, rel=0.05)
    parts = sum(part.seconds.value for part in whole.parts.values())
    assert whole.seconds.value == pytest.approx(parts + 1e-5)


def test_measured_sizes_are_given_back() -> None:
    one = graph(product("w", 1024, 4096))
    many = graph(*(product(f"w{i}", 1024, 4096) for i in range(64)))
    bare = profile(loop={})
    cached = call_of(one, bare, Call(1, 64), HERE).seconds.value
    assert cached == pytest.approx(seconds(4, 128, 1024, 4096, 64, streamed=False), rel=0.01)
    streamed = call_of(many, bare, Call(1, 1), HERE).seconds.value / 64
    assert streamed == pytest.approx(seconds(4, 128, 1024, 4096, 1, streamed=True), rel=0.01)


def test_what_is_larger_takes_longer() -> None:
    pasts = [
        call_of(model(), profile(), Call(1, 1, past), HERE).seconds.value for past in (16, 100, 900, 4000)
    ]
    assert pasts == sorted(pasts)
    prompts = [
        predict(model(), profile(), replace(HERE, prompt=p)).metrics["ttft"].value
        for p in (16, 99, 600, 3000)
    ]
    assert prompts == sorted(prompts)
    layers = [predict(model(n), profile(), HERE).metrics["tpot"].value for n in (6, 12, 24)]
    assert layers == sorted(layers)
    texts = [predict(model(), profile(), replace(HERE, batch=b)).metrics for b in (1, 2, 4, 8)]
    assert [m["tpot"].value for m in texts] == sorted(m["tpot"].value for m in texts)
    rates = [m["batch_tokens_per_second"].value for m in texts]
    assert rates == sorted(rates)


def test_memory_of_the_moment_moves_what_is_streamed() -> None:
    usual = predict(model(), profile(), HERE).metrics
    slow = predict(model(), profile(), replace(HERE, bandwidth=MEMORY / 2)).metrics
    assert slow["tpot"].value == pytest.approx(1.9 * usual["tpot"].value, rel=0.1)
    assert slow["ttft"].value == pytest.approx(usual["ttft"].value, rel=0.05)
    asked = predict(model(), profile(), replace(HERE, bandwidth=MEMORY)).metrics["tpot"]
    assert asked.value == pytest.approx(usual["tpot"].value)
    assert width(asked) < 0.9 * width(usual["tpot"])


def test_weights_that_fit_in_a_cache_are_not_streamed() -> None:
    small = graph(*(product(f"w{i}", 1024, 1024) for i in range(4)))
    step = call_of(small, profile(loop={}), Call(), replace(HERE, bandwidth=MEMORY / 10))
    size = sum(n.product.bytes for n in small.nodes if n.product)
    assert step.seconds.value == pytest.approx(size / CACHE + 4 * 2e-6, rel=0.05)


def test_of_a_cache_there_is_as_much_as_working_sets_say() -> None:
    small = graph(*(product(f"w{i}", 1024, 1024) for i in range(4)))
    size = sum(n.product.bytes for n in small.nodes if n.product)

    def step(rate_there: float) -> float:
        sets = {size // 2: near(CACHE), size: near(rate_there), 2 * size: near(MEMORY)}
        return call_of(small, profile(loop={}, working_sets={1: sets}), Call(), HERE).seconds.value

    assert step(CACHE) == pytest.approx(size / CACHE + 4 * 2e-6, rel=0.05)
    assert step(MEMORY) == pytest.approx(size / MEMORY + 4 * 2e-6, rel=0.05)
    assert step(CACHE) < step((CACHE + MEMORY) / 2) < step(MEMORY)


def test_what_stays_in_a_cache_takes_as_much_longer_as_the_pulse() -> None:
    small = graph(*(product(f"w{i}", 1024, 1024) for i in range(4)))
    there = profile(pulse={1: near(1e-4)})

    def step(pulse: float | None, call: Call) -> float:
        return call_of(small, there, call, replace(HERE, pulse=pulse)).seconds.value

    for few in (Call(), Call(8, 1, 16)):
        assert step(1.5e-4, few) == pytest.approx(1.5 * step(None, few))
    assert step(1e-4, Call()) == step(None, Call())
    assert step(1.5e-4, Call(1, 64, 0)) == step(None, Call(1, 64, 0)), "many rows do not follow it"


def test_of_what_comes_from_memory_computing_follows_the_pulse() -> None:
    there = profile(loop={}, pulse={1: near(1e-4)})
    large = graph(*(product(f"w{i}", 4096, 4096) for i in range(16)))

    def slower(call: Call) -> float:
        usual, later = (
            call_of(large, there, call, replace(HERE, pulse=pulse)).seconds.value for pulse in (1e-4, 1.5e-4)
        )
        return later / usual

    assert slower(Call()) == pytest.approx(1, rel=0.02), "one row reads"
    assert 1.2 < slower(Call(8, 1, 16)) < 1.5, "eight compute"


def test_floats_leave_a_cache_as_products_of_floats_do() -> None:
    floats = graph(*(product(f"w{i}", 1024, 1024, bits=32, block=0) for i in range(2)))
    size = 2 * 1024 * 1024 * 4

    def step(there: float) -> float:
        sets = [(size // 2, CACHE), (size, there), (4 * size, MEMORY)]
        found = tuple(SetRate(rows=1, bytes=b, threads=1, read=near(rate)) for b, rate in sets)
        whole = profile(loop={}, products=tuple(products(32, 0)), float_sets=found)
        return call_of(floats, whole, Call(), HERE).seconds.value

    assert step(MEMORY) > 2 * step(CACHE)
    assert step(CACHE) < step((CACHE + MEMORY) / 2) < step(MEMORY)


def test_a_column_is_walked_to_the_end_of_its_last_block() -> None:
    """k = 1100 is nine blocks of 128, as 1152 is, and 1024 is eight."""
    there = profile(loop={})

    def step(k: int) -> float:
        large = graph(*(product(f"w{i}", k, 4096) for i in range(32)))
        return call_of(large, there, Call(), HERE).seconds.value

    assert step(1100) == pytest.approx(step(1152), rel=0.01)
    assert step(1024) < 0.92 * step(1100)


def test_each_expert_that_is_met_takes_as_long_as_a_product() -> None:
    one = product("w", 1024, 4096)
    assert one.product is not None
    experts = replace(one, product=replace(one.product, experts=8, chosen=2, bytes=8 * one.product.bytes))
    there = profile(loop={})
    alone, two = (call_of(graph(node), there, Call(), HERE) for node in (one, experts))
    assert two.seconds.value == pytest.approx(2 * alone.seconds.value)
    assert "experts were not measured" in two.widened[0]
    assert width(two.seconds) > width(alone.seconds)


def test_attention_over_a_cache_that_stays_is_another_thing() -> None:
    heads = Heads(16, 4, 64, 32)
    node = NodeWork("attention", "Attention", "attention", attention=heads)
    taken = [
        rate.model_copy(update={"streamed": False, "seconds": near(rate.seconds.value / 3)})
        for rate in attention()
        if rate.rows == 1
    ]
    machine = profile(loop={}, attention=(*attention(), *taken))

    def step(*more: NodeWork) -> float:
        return call_of(graph(node, *more), machine, Call(1, 1, 256), HERE).seconds.value

    fillers = [product(f"w{i}", 4096, 4096) for i in range(12)]
    alone = call_of(graph(*fillers), machine, Call(1, 1, 256), HERE).seconds.value
    assert step() == pytest.approx(attended(16, 64, 256, 1, 1) / 3, rel=0.1)
    assert step(*fillers) - alone == pytest.approx(attended(16, 64, 256, 1, 1), rel=0.1)


def test_columns_that_end_within_a_line_of_a_cache_are_told_apart() -> None:
    ragged = [Sizes(4, k, 1024, 1, 32, zeros=False).ragged for k in (512, 576, 640, 2048)]
    assert ragged == [False, True, False, False]
    assert not Sizes(32, 577, 1024, 1, 0, zeros=False).ragged


def test_beyond_what_was_measured_intervals_widen() -> None:
    def relative(k: int, n: int) -> float:
        nodes = (product(f"w{i}", k, n) for i in range(60))
        return width(call_of(graph(*nodes), profile(), Call(), HERE).seconds)

    assert relative(1024, 4096) < relative(1900, 2700) < relative(16384, 28672)
    wide = call_of(graph(product("w", 16384, 28672)), profile(), Call(), HERE)
    assert wide.widened == ("products of 4 bits were measured of other sizes only",)


def test_forms_and_operators_that_were_not_measured_are_said() -> None:
    work = graph(product("w", 1024, 1024, bits=2, block=64), other("x", "Frobnicate", 100))
    found = predict(work, profile(), HERE)
    assert found.widened == (
        "products of 2 bits were not measured",
        "Frobnicate was not measured: taken for another small operator",
    )
    assert width(found.metrics["tpot"]) > 2


def test_unknown_nodes_give_no_times() -> None:
    found = predict(replace(model(), unknown=("/scan",)), profile(), HERE)
    assert found.unknown == ("/scan",)
    assert "ttft" not in found.metrics
    assert "tpot" not in found.metrics


def test_threads_that_were_not_measured_are_said() -> None:
    found = predict(model(), profile(), replace(HERE, threads=8))
    assert "8 threads were not measured: times are those of 2" in found.widened
    assert width(found.metrics["ttft"]) > 1.5 * width(predict(model(), profile(), HERE).metrics["ttft"])


def test_what_varies_more_when_measured_has_wider_intervals() -> None:
    rough = profile(products=tuple(products(percent=15)))
    ours, theirs = (
        predict(model(), p, replace(HERE, bandwidth=MEMORY)).metrics["tpot"] for p in (profile(), rough)
    )
    assert width(theirs) - 1 > 1.5 * (width(ours) - 1)


def cited() -> Profile:
    return profile(
        kind="cited",
        tiers=(profile().tiers[-1].model_copy(update={"name": "HBM", "read": {0: near(3e12)}}),),
        peaks={"int8": {0: near(1e15)}, "fp32": {0: near(1e14)}},
        products=(),
        attention=(),
        operators=(),
        dispatch={},
        loop={},
        session=None,
        noise=None,
    )


def test_a_cited_machine_is_a_roofline() -> None:
    found = predict(model(), cited(), HERE)
    size = sum(n.product.bytes for n in model().nodes if n.product)
    assert found.metrics["tpot"].value > size / 3e12
    assert found.step["MatMulNBits 4/128"].seconds.value == pytest.approx(size / 3e12, rel=1e-3)
    assert found.step["MatMulNBits 4/128"].by == "memory"
    assert "load_time" not in found.metrics


def test_intervals_of_a_cited_machine_are_as_wide_as_its_sheet_says() -> None:
    wide = Tier(name="HBM", bytes=80 << 30, read={0: Interval(value=3e12, low=1.5e12, high=6e12)})
    found = predict(model(), cited().model_copy(update={"tiers": (wide,)}), HERE)
    assert width(found.metrics["tpot"]) > 1.5 * width(predict(model(), cited(), HERE).metrics["tpot"])


def test_parts_say_what_bounds_them() -> None:
    found = predict(model(), profile(), replace(HERE, prompt=512))
    assert found.step["MatMulNBits 4/128"].by == "memory"
    assert found.prompt["MatMulNBits 4/128"].by == "compute"


def test_positions_and_waiting() -> None:
    found = predict(model(), profile(), replace(HERE, batch=4, utilisation=0.8))
    assert list(found.positions) == sorted(found.positions)
    assert found.positions[256].value < found.positions[320].value
    assert found.queue is not None
    assert found.queue.wait > 0
    assert predict(model(), profile(), HERE).queue is None


def test_one_product_by_rows() -> None:
    one = Product("w", 1024, 4096, 4, 128, zeros=False, bytes=1024 * 4096 * 17 // 32)
    found = [product_seconds(profile(), one, rows=rows, threads=1) for rows in (1, 8, 64)]
    assert found[0].value == pytest.approx(seconds(4, 128, 1024, 4096, 1, streamed=True), rel=0.01)
    assert [f.value for f in found] == sorted(f.value for f in found)
    assert all(f.low < f.value < f.high for f in found)
