"""How many threads this process may really use."""

from __future__ import annotations

import math
import os
from pathlib import Path

__all__ = ["cgroup_quota", "default_threads", "physical_cores"]

_CGROUP = Path("/sys/fs/cgroup")


def default_threads() -> int:
    """Threads for compute: what affinity, the cgroup's quota and the physical cores allow, at least 1.

    onnxruntime looks at none but the machine's cores, and onnxruntime-genai takes half the hardware threads.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cgroup_quota()
    cores = physical_cores()
    limits = [allowed, *([max(1, math.floor(quota))] if quota else []), *([cores] if cores else [])]
    return max(1, min(limits))


def cgroup_quota(root: Path = _CGROUP) -> float | None:
    """CPUs the cgroup (version 2, else 1) may use on average; None where it sets no limit."""
    try:
        limit, period = (root / "cpu.max").read_text().split()
        return None if limit == "max" else int(limit) / int(period)
    except (OSError, ValueError):
        pass
    try:
        limit = (root / "cpu" / "cpu.cfs_quota_us").read_text().strip()
        period = (root / "cpu" / "cpu.cfs_period_us").read_text().strip()
        return int(limit) / int(period) if int(limit) > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None


def physical_cores(info: Path = Path("/proc/cpuinfo")) -> int | None:
    """Physical cores among those this process may run on; None where the machine does not tell.

    A virtual machine that shows two processors as hyper-threads of one core is believed only where it says
    how many siblings a core has: one thread a core loses nothing for kernels that fill a core's vector units.
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
