"""How many threads this process may really use."""

from __future__ import annotations

import math
import os
from pathlib import Path

from graphopt.errors import BadInput
from graphopt.io import is_count

__all__ = ["cgroup_quota", "default_threads", "physical_cores"]

_CGROUP = Path("/sys/fs/cgroup")


def default_threads() -> int:
    """Threads for compute: what affinity, the cgroup's quota and the physical cores allow, at least 1.

    onnxruntime looks at none but the machine's cores, and onnxruntime-genai takes half the hardware threads.
    GRAPHOPT_THREADS allows fewer: a process that shares the machine with others like it has its part.
    """
    given = os.environ.get("GRAPHOPT_THREADS", "")
    if given and (not is_count(given) or not int(given)):
        raise BadInput(f"GRAPHOPT_THREADS={given!r} is not a number of threads")
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cgroup_quota()
    cores = physical_cores()
    return max(1, min(allowed, math.floor(quota or allowed), cores or allowed, int(given or allowed)))


def cgroup_quota(root: Path = _CGROUP, membership: Path = Path("/proc/self/cgroup")) -> float | None:
    """CPUs that the process's cgroups (version 1 or 2) allow on average; None where none sets a limit.

    A group is bound by the limits of those it lies in, so the least of them counts. `root` is where cgroups
    are mounted; in a container it is the container's own group, whatever `membership` calls it.
    """
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return None
    limits = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            limits += [_quota_v2(folder) for folder in _upwards(root, path)]
        elif "cpu" in controllers.split(","):
            for mount in {root / "cpu", root / controllers}:
                limits += [_quota_v1(folder) for folder in _upwards(mount, path)]
    return min((limit for limit in limits if limit is not None), default=None)


def _upwards(root: Path, path: str) -> list[Path]:
    """`root` and every folder below it on the way to `path`."""
    parts = [part for part in path.split("/") if part not in ("", "..")]
    return [root.joinpath(*parts[:depth]) for depth in range(len(parts) + 1)]


def _quota_v2(folder: Path) -> float | None:
    try:
        limit, period = (folder / "cpu.max").read_text().split()
    except (OSError, ValueError):
        return None
    return None if limit == "max" else int(limit) / int(period)


def _quota_v1(folder: Path) -> float | None:
    try:
        limit = int((folder / "cpu.cfs_quota_us").read_text())
        period = int((folder / "cpu.cfs_period_us").read_text())
    except (OSError, ValueError):
        return None
    return limit / period if limit > 0 else None


def physical_cores(info: Path = Path("/proc/cpuinfo")) -> int | None:
    """Physical cores among those this process may run on; None where the machine does not tell.

    One thread a core: kernels that fill a core's vector units gain nothing from its second thread.
    """
    try:
        blocks = info.read_text().strip().split("\n\n")
    except OSError:
        return None
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    seen = set()
    for block in blocks:
        fields = dict(line.replace("\t", "").split(":", 1) for line in block.splitlines() if ":" in line)
        try:
            number = int(fields["processor"])
            place = (fields["physical id"].strip(), fields["core id"].strip())
        except (KeyError, ValueError):
            return None
        if allowed is None or number in allowed:
            seen.add(place)
    return len(seen) or None
