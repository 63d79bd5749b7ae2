"""Weights are read into memory before they are mapped."""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from graphopt_targets.cpu.kernels import library, open_session
from graphopt_targets.cpu.kernels._prefault import prefault

MB = 1 << 20


def dropped(path: Path, first: int = 0) -> None:
    """Have the system forget the file's content from `first` on."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), first, 0, os.POSIX_FADV_DONTNEED)
    if there(path) == path.stat().st_size:
        pytest.skip("this file system keeps files in memory")


def there(path: Path) -> int:
    """Bytes of the file that are in memory, as mincore(2) says."""
    size = path.stat().st_size
    pages = (ctypes.c_ubyte * -(-size // mmap.PAGESIZE))()
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as mapped:
        begin = ctypes.c_ubyte.from_buffer(mapped)
        failed = ctypes.CDLL(None).mincore(
            ctypes.c_void_p(ctypes.addressof(begin)), ctypes.c_size_t(size), pages
        )
        del begin
    assert not failed
    return min(size, sum(page & 1 for page in pages) * mmap.PAGESIZE)


def test_all_of_a_file_is_brought_in(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(os.urandom(40 * MB + 5))
    dropped(path)

    prefault(path)

    assert there(path) == 40 * MB + 5


def test_what_follows_the_first_gap_is_brought_in(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(os.urandom(40 * MB))
    dropped(path, 3 * MB)
    assert 3 * MB <= there(path) < 40 * MB

    prefault(path)

    assert there(path) == 40 * MB


def test_what_is_no_file_is_left_alone(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    prefault(tmp_path / "pipe")
    prefault(tmp_path)
    prefault(tmp_path / "missing")


@pytest.mark.skipif(library() is None, reason="no compiler here, or no AVX2")
def test_opening_a_package_brings_its_weights_in(tiny_coder_at: Callable[[str], Path]) -> None:
    data = tiny_coder_at("int4") / "model.onnx.data"
    dropped(data)

    open_session(data.with_name("model.onnx"))

    assert there(data) == data.stat().st_size
