"""Who may use a machine: many at once, or one that is timed."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from graphopt.errors import EnvironmentProblem

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["lock_folder", "machine_to_itself", "machine_with_others"]

_BOOT = Path("/proc/sys/kernel/random/boot_id")


def lock_folder() -> Path:
    """Where this user's locks of this machine, since it was started, are: the same for every process.

    It does not follow TMPDIR or XDG_RUNTIME_DIR, which nodes of one host may be told differently.
    """
    user = os.getuid() if hasattr(os, "getuid") else 0
    runtime = Path(f"/run/user/{user}")
    base = (
        runtime
        if os.access(runtime, os.W_OK)
        else Path("/tmp" if os.name == "posix" else tempfile.gettempdir())
    )
    boot = _BOOT.read_text().strip() if _BOOT.is_file() else "unknown"
    folder = base / f"graphopt-{user}" / boot
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if hasattr(os, "getuid") and folder.parent.stat().st_uid != user:
        raise EnvironmentProblem(f"{folder.parent} belongs to somebody else: it cannot hold locks")
    return folder


@contextlib.contextmanager
def machine_to_itself() -> Iterator[None]:
    """Wait until no process within `machine_with_others` or this is left, and keep others out meanwhile."""
    with _held("door", exclusive=True), _held("room", exclusive=True):
        yield


@contextlib.contextmanager
def machine_with_others() -> Iterator[None]:
    """Wait until nobody has the machine to itself, or waits for that, and keep such out meanwhile."""
    with contextlib.ExitStack() as room:
        with _held("door", exclusive=True):  # who waits for all others to leave stands in it
            room.enter_context(_held("room", exclusive=False))
        yield


@contextlib.contextmanager
def _held(name: str, *, exclusive: bool) -> Iterator[None]:
    """Hold a lock (flock); the system drops it when the process ends, however it ends."""
    if fcntl is None:
        yield
        return
    handle = os.open(lock_folder() / name, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
        yield
    finally:
        os.close(handle)
