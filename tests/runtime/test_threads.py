"""Threads: the least of affinity, cgroup quota and physical cores."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from graphopt.runtime import _threads, cgroup_quota, default_threads, physical_cores

V2 = "0::/pod/container\n"
V1 = "4:memory:/a\n3:cpuset:/a\n2:cpu,cpuacct:/pod/container\n"


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        (V2, {"cpu.max": "150000 100000\n"}, 1.5),
        (V2, {"cpu.max": "max 100000\n"}, None),
        (V2, {"pod/container/cpu.max": "400000 100000\n", "pod/cpu.max": "200000 100000\n"}, 2.0),
        (V2, {"pod/container/cpu.max": "50000 100000\n", "pod/cpu.max": "max 100000\n"}, 0.5),
        (V2, {"elsewhere/cpu.max": "50000 100000\n"}, None),
        (V1, {"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3.0),
        (V1, {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        (
            V1,
            {
                "cpu,cpuacct/pod/cpu.cfs_quota_us": "250000\n",
                "cpu,cpuacct/pod/cpu.cfs_period_us": "100000\n",
            },
            2.5,
        ),
        (V1, {"memory/cpu.max": "100000 100000\n"}, None),
    ],
)
def test_quota(tmp_path: Path, membership: str, files: dict[str, str], expected: float | None) -> None:
    write(tmp_path / "cgroup", membership)
    for name, text in files.items():
        write(tmp_path / "fs" / name, text)

    assert cgroup_quota(tmp_path / "fs", tmp_path / "cgroup") == expected


def test_no_cgroups(tmp_path: Path) -> None:
    assert cgroup_quota(tmp_path, tmp_path / "missing") is None


def processor(number: int, core: int, package: int = 0) -> str:
    return f"processor\t: {number}\nphysical id\t: {package}\nmodel name\t: X\ncore id\t\t: {core}\n"


@pytest.mark.parametrize(
    ("blocks", "allowed", "expected"),
    [
        ([processor(0, 0), processor(1, 1)], {0, 1}, 2),
        ([processor(0, 0), processor(1, 0), processor(2, 1), processor(3, 1)], {0, 1, 2, 3}, 2),
        ([processor(0, 0), processor(1, 0), processor(2, 1), processor(3, 1)], {0, 2}, 2),
        ([processor(0, 0), processor(1, 0), processor(2, 1), processor(3, 1)], {2, 3}, 1),
        ([processor(0, 0, package=0), processor(1, 0, package=1)], {0, 1}, 2),
        (["processor\t: 0\nBogoMIPS\t: 50\n", "processor\t: 1\nBogoMIPS\t: 50\n"], {0, 1}, None),
    ],
    ids=["cores", "siblings", "one-of-each", "one-core", "two-packages", "arm"],
)
def test_physical_cores(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    blocks: list[str],
    allowed: set[int],
    expected: int | None,
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: allowed, raising=False)
    write(tmp_path / "cpuinfo", "\n".join(blocks))

    assert physical_cores(tmp_path / "cpuinfo") == expected


def test_a_machine_that_does_not_tell_its_cores(tmp_path: Path) -> None:
    assert physical_cores(tmp_path / "missing") is None


@pytest.mark.parametrize(
    ("allowed", "quota", "cores", "expected"),
    [
        (8, None, None, 8),
        (8, None, 4, 4),
        (8, 2.9, 4, 2),
        (3, 6.0, 4, 3),
        (8, 0.5, 4, 1),
    ],
)
def test_the_least_counts(
    monkeypatch: pytest.MonkeyPatch, allowed: int, quota: float | None, cores: int | None, expected: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(allowed)), raising=False)
    monkeypatch.setattr(_threads, "cgroup_quota", lambda: quota)
    monkeypatch.setattr(_threads, "physical_cores", lambda: cores)

    assert default_threads() == expected
