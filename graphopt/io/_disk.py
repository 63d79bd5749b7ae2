"""Folders that outlast crashes: held by one process until that ends, and files forced onto the disk."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["exclusive", "sync"]


@contextlib.contextmanager
def exclusive(folder: Path) -> Iterator[bool]:
    """Hold `folder` for this process alone (flock, advisory) if nobody else does; whether it is held.

    The system drops it when the process ends, however it ends. Where no folder can be held, it never is.
    """
    if fcntl is None:
        yield False
        return
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        yield False
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        yield False
    else:
        yield True
    finally:
        os.close(handle)


def sync(folder: Path) -> None:
    """Force every file below `folder` onto the disk, so that a power cut after the swap finds them whole."""
    for path in (*folder.rglob("*"), folder):
        if path.is_file() or (path.is_dir() and sys.platform != "win32"):
            handle = os.open(path, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
