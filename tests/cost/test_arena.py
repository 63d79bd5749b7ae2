"""The arena, by hand."""

from __future__ import annotations

from graphopt.cost import Call, NodeWork, Result
from graphopt.cost._arena import touched

MB = 1 << 20


def node(name: str, size: int, *operands: str) -> NodeWork:
    return NodeWork(name, "Op", "other", (Result(name, (size // 4,), 32),), operands)


def test_what_is_freed_is_used_again_and_what_is_not_read_is_freed_at_once() -> None:
    nodes = [node("a", MB), node("b", MB, "a"), node("c", MB, "b"), node("d", MB, "c")]
    # a in the first region; b in the next of as much; then each takes the place of one that was read.
    assert sum(used for _, used in touched(nodes, Call(), ())) == 2 * MB


def test_a_region_is_as_large_as_a_power_of_two_and_touched_as_far_as_it_is_used() -> None:
    assert touched([node("a", 3 * MB)], Call(), ()) == [(4 * MB, 3 * MB)]


def test_what_lies_elsewhere_takes_none() -> None:
    assert touched([node("a", MB)], Call(), ("a",)) == []
