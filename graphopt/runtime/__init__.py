"""Running packages: sessions for this machine, threads, and text generation."""

from graphopt.runtime._generate import Sampling, TextModel
from graphopt.runtime._session import check_installation, open_session, session_options
from graphopt.runtime._threads import cgroup_quota, default_threads, physical_cores

__all__ = [
    "Sampling",
    "TextModel",
    "cgroup_quota",
    "check_installation",
    "default_threads",
    "open_session",
    "physical_cores",
    "session_options",
]
