"""Caches, reads of memory, and what later samples of it change."""

from __future__ import annotations

import datetime
import math
from pathlib import Path

import pytest

from graphopt.machine import MemorySample, Stream, with_memory
from graphopt.machine._memory import at_bandwidth, caches
from tests.machine._profiles import NOON, profile


def test_caches_are_those_the_system_tells(tmp_path: Path) -> None:
    for index, (level, kind, size, shared) in enumerate(
        [
            ("1", "Data", "48K", "0,64"),
            ("1", "Instruction", "32K", "0,64"),
            ("2", "Unified", "2048K", "0,64"),
            ("3", "Unified", "not a size", "0"),
            ("4", "Unified", "8192K", "0-3,64-67"),
        ]
    ):
        folder = tmp_path / "cpu0" / "cache" / f"index{index}"
        folder.mkdir(parents=True)
        for name, text in (("level", level), ("type", kind), ("size", size), ("shared_cpu_list", shared)):
            (folder / name).write_text(f"{text}\n")
    (tmp_path / "cpu0" / "cache" / "index9").mkdir()

    found = [(one.name, one.bytes, one.shared) for one in caches(tmp_path)]
    assert found == [("L1", 48 << 10, 2), ("L2", 2 << 20, 2), ("L4", 8 << 20, 8)]


def test_a_system_that_does_not_tell_has_none(tmp_path: Path) -> None:
    assert caches(tmp_path) == []


def test_samples_are_kept_by_threads() -> None:
    stream = Stream(1 << 16)
    assert stream.sample(1) > 0
    stream.sample(2)
    assert {threads: len(found) for threads, found in stream.samples.items()} == {1: 1, 2: 1}


def test_what_memory_bounds_takes_as_much_longer_as_memory_is_slower() -> None:
    assert at_bandwidth(2.0, 20.0, now=10.0, then=5.0) == pytest.approx(4.0)
    half = at_bandwidth(2.0, 10.0, now=10.0, then=5.0)
    assert half == pytest.approx(math.hypot(2.0, math.sqrt(3))), "one of two seconds was reading"
    quick = at_bandwidth(2.0, 10.0, now=10.0, then=10.0, faster=0.5)
    assert quick == pytest.approx(math.hypot(1.0, math.sqrt(3) / 2)), "the rest takes half as long"
    assert at_bandwidth(2.0, 900.0, now=10.0, then=5.0) == pytest.approx(4.0), "at most all of it was"


def later(minutes: float, read: float) -> MemorySample:
    return MemorySample(at=NOON + datetime.timedelta(minutes=minutes), threads=1, read=read)


def test_later_samples_widen_the_interval_of_memory() -> None:
    found = with_memory(profile(), [later(i, 10e9 if i % 2 else 5e9) for i in range(1, 30)])
    memory = found.tiers[-1].read[1]
    assert memory.low == pytest.approx(5e9)
    assert memory.high == pytest.approx(10e9)
    assert len(found.memory) == 30


def test_rates_that_stream_follow_the_middle_of_memory() -> None:
    found = with_memory(profile(), [later(i, 5e9) for i in range(1, 30)])
    assert found.tiers[-1].read[1].value == pytest.approx(5e9)
    before, after = (one.products for one in (profile(), found))
    assert after[0].seconds.value == pytest.approx(2 * before[0].seconds.value)
    assert after[1] == before[1], "what comes from a cache does not"
    assert found.attention[0].seconds.value > profile().attention[0].seconds.value


def test_samples_of_a_moment_count_as_one() -> None:
    found = with_memory(profile(memory=()), [later(0.01 * i, 1e9 * (1 + i)) for i in range(5)])
    assert [one.read for one in found.memory] == [3e9]
