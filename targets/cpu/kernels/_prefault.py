"""Prefaulting: a file's content is in the page cache, in large pages, before the file is mapped."""

from __future__ import annotations

import mmap
import os
import re
import time
from pathlib import Path

__all__ = ["prefault"]

_PIECE = 1 << 20  # bytes a read: many pages, and small beside what is read
_NOT_WAITING = getattr(os, "RWF_NOWAIT", None)
_LARGE = 2 << 20
"""Bytes that a processor maps by one entry where they lie together: x86-64's and AArch64's usual size."""
_WORTH = 32 << 20
"""Bytes of a file from which on it matters how it lies: smaller ones stay in caches."""
_AT_ONCE = 16 << 20
"""Bytes that are looked at, and read again, at a time; the first of them tells whether that helps."""
_ENOUGH = 0.9
"""Of such a part, in large pages: what is at an end of it may not be."""
_SLOWEST = 0.2e9
"""Bytes a second that a disk must give for content to be read once more."""
_POPULATE_READ = 22
"""MADV_POPULATE_READ of Linux 5.14, which Python 3.14 has no name for."""
_MAPPED_LARGE = re.compile(rb"FilePmdMapped: +(\d+) kB")


def prefault(path: Path, *, in_place: bool = True) -> None:
    """Read `path` in order into the page cache, from the first part on that is not there yet, and once more
    where it is there in small pages and weights are read in place, from the mapping.

    What is touched first through a mapping comes in page by page, and lies anywhere, and so does what was
    written or copied in small pieces. Read in order it comes in large pieces, from which products are up to
    a third faster (docs/decisions/kernels.md). Nothing is done where the system cannot tell what is there,
    or the file cannot be read; nothing is read again where that is slow, or the file system has no large
    pages.
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
            if in_place and size >= _WORTH and _in_large_pages(file.fileno(), 0, size) < _ENOUGH:
                _lay_out(file.fileno(), size)
    except OSError:
        return


def _is_there(descriptor: int, at: int) -> bool:
    try:
        os.preadv(descriptor, [bytearray(1)], at, _NOT_WAITING or 0)
    except BlockingIOError:
        return False
    return True


def _in_large_pages(descriptor: int, at: int, size: int) -> float:
    """How much of a part of the file, which is in memory, one entry maps with its neighbours."""
    with mmap.mmap(descriptor, size, prot=mmap.PROT_READ, offset=at) as mapped:
        for touched in range(0, size, _LARGE):
            mapped[touched]
        return _mapped_large(mapped) / size


def _mapped_large(mapped: mmap.mmap) -> int:
    """What Linux tells of the mapping (proc(5), smaps)."""
    begin = _address(mapped)
    with Path("/proc/self/smaps").open("rb") as file:
        ours = False
        for line in file:
            if b"-" in line.split(b" ", 1)[0]:
                ours = line.startswith(b"%x-" % begin)
            elif ours and (told := _MAPPED_LARGE.match(line)):
                return int(told[1]) << 10
    raise OSError("the system does not tell how files are mapped")


def _address(mapped: mmap.mmap) -> int:
    import numpy as np

    return int(np.frombuffer(mapped, np.uint8, 1).ctypes.data)


def _lay_out(descriptor: int, size: int) -> None:
    """Drop the clean pages that nobody maps of parts that lie in small ones, and read them in large ones."""
    os.fdatasync(descriptor)
    helps = None
    for at in range(0, size - _LARGE, _AT_ONCE):
        length = min(_AT_ONCE, size - at)
        before = _in_large_pages(descriptor, at, length)
        if before >= _ENOUGH * (length // _LARGE * _LARGE) / length:
            continue
        begun = time.perf_counter()
        os.posix_fadvise(descriptor, at, length, os.POSIX_FADV_DONTNEED)
        with mmap.mmap(descriptor, length, prot=mmap.PROT_READ, offset=at) as mapped:
            mapped.madvise(mmap.MADV_HUGEPAGE)
            mapped.madvise(_POPULATE_READ)
        if length / (time.perf_counter() - begun) < _SLOWEST:
            return
        if helps is None:
            helps = _in_large_pages(descriptor, at, length) > before
        if not helps:
            return
