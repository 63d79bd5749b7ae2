"""Puts a finished folder in the place of another in one step."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from pathlib import Path

__all__ = ["install", "recover"]

_AT_FDCWD = -100  # linux/fcntl.h
_RENAME_EXCHANGE = 2  # linux/fs.h
_UNSUPPORTED = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP}


def install(new: Path, place: Path, aside: Path) -> None:
    """Make `place` be what `new` is.

    What stood there before is afterwards at `new` or `aside`, for the caller to remove. Where the system can
    exchange two names, no moment exists at which `place` is missing; elsewhere `recover` closes the gap that
    a crash between the two renames leaves.
    """
    if not place.exists():
        new.rename(place)
    elif not _exchange(new, place):
        place.rename(aside)
        new.rename(place)


def recover(place: Path, aside: Path) -> bool:
    """Put back what an interrupted `install` had moved aside; whether there was anything to put back."""
    if place.exists() or not aside.exists():
        return False
    aside.rename(place)
    return True


def _exchange(a: Path, b: Path) -> bool:
    """Exchange two names with renameat2(RENAME_EXCHANGE); False where the system or file system lacks it."""
    if not sys.platform.startswith("linux"):
        return False
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    if renameat2(_AT_FDCWD, os.fsencode(a), _AT_FDCWD, os.fsencode(b), _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in _UNSUPPORTED:
        return False
    raise OSError(code, os.strerror(code), str(b))
