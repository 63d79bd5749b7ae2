"""How long a process may take: in processor time, so that a busy machine fails nothing."""

from __future__ import annotations

import math
import resource
import signal
import time

__all__ = ["HANGS", "allow", "took_too_long"]

HANGS = 3600
"""Seconds on the clock after which a process that does not even compute is given up."""


def allow(seconds: int) -> None:
    """Let this process compute for so many seconds more; then it is killed. Its children get their own."""
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(time.process_time()) + seconds, most))


def took_too_long(exit_code: int | None) -> bool:
    """Whether a process that ended so was killed by its limit."""
    return exit_code == -signal.SIGXCPU
