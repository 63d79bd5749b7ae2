"""Memory of another node: of two that are made up, since most machines have one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from graphopt.machine._numa import far_rates, nodes

HERE = frozenset(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else frozenset[int]()


def test_nodes_are_those_with_cores_that_may_be_used(tmp_path: Path) -> None:
    for name, cores in (("node0", f"{min(HERE)}"), ("node1", "100000-100003"), ("node2", ""), ("node3", "x")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "cpulist").write_text(f"{cores}\n")
    (tmp_path / "node4").mkdir()
    assert nodes(tmp_path) == {0: frozenset({min(HERE)})}


def test_one_node_has_no_far_memory() -> None:
    assert far_rates(1 << 20, 1, {0: HERE}) == []


@pytest.mark.skipif(not HERE, reason="threads cannot be pinned here")
def test_cores_of_one_node_read_what_those_of_another_wrote() -> None:
    rates = far_rates(1 << 22, 2, {0: HERE, 1: HERE})
    assert len(rates) == 5
    assert all(rate > 0 for rate in rates)
    assert frozenset(os.sched_getaffinity(0)) == HERE, "only threads of its own were pinned"
