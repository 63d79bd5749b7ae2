"""Prefaulting: a file's content is in the page cache before the file is mapped."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["prefault"]

_PIECE = 1 << 20  # bytes a read: many pages, and small beside what is read
_NOT_WAITING = getattr(os, "RWF_NOWAIT", None)


def prefault(path: Path) -> None:
    """Read `path` in order into the page cache, from the first part on that is not there yet.

    What is touched first through a mapping comes in page by page, and lies anywhere. Read in order it comes
    in large pieces, from which products are 8 % faster (docs/decisions/kernels.md). Nothing is done where the
    system cannot tell what is there, or the file cannot be read.
    """
    if _NOT_WAITING is None or not path.is_file():
        return
    try:
        with path.open("rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            missing = (at for at in range(0, size, _PIECE) if not _is_there(file.fileno(), at))
            file.seek(next(missing, size))
            piece = bytearray(_PIECE)
            while file.readinto(piece):
                pass
    except OSError:
        return


def _is_there(descriptor: int, at: int) -> bool:
    try:
        os.preadv(descriptor, [bytearray(1)], at, _NOT_WAITING or 0)
    except BlockingIOError:
        return False
    return True
