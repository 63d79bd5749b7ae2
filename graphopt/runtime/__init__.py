"""Running packages: sessions for this machine, threads, decoding and generation."""

from graphopt.runtime._session import check_installation, open_session, session_options
from graphopt.runtime._threads import cgroup_quota, default_threads, physical_cores

__all__ = [
    "cgroup_quota",
    "check_installation",
    "default_threads",
    "open_session",
    "physical_cores",
    "session_options",
]
