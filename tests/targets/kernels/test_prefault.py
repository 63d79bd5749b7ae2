"""Weights are read into memory before they are mapped."""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from graphopt_targets.cpu.kernels import _prefault, library, open_session
from graphopt_targets.cpu.kernels._prefault import prefault

from graphopt.ir import save_model

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


def in_large_pages(path: Path) -> float:
    """What part of the file is."""
    with path.open("rb") as file:
        size = path.stat().st_size
        return _prefault._in_large_pages(file.fileno(), 0, size)


def in_small_pieces(path: Path, size: int = 40 * MB) -> bytes:
    """Writes what then lies in small pages, on a system that has large ones."""
    piece = os.urandom(1 << 16)
    path.write_bytes(piece * (size >> 16))
    if not in_large_pages(path):
        pytest.skip("this system keeps no files in large pages")
    path.unlink()
    with path.open("wb", buffering=0) as file:
        for _ in range(size >> 16):
            file.write(piece)
    assert not in_large_pages(path)
    return piece * (size >> 16)


def test_what_was_written_in_small_pieces_comes_to_lie_in_large_pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "data"
    content = in_small_pieces(path)
    monkeypatch.setattr(_prefault, "_SLOWEST", 0.0)  # whatever else this machine does

    prefault(path)

    assert in_large_pages(path) > 0.5
    assert path.read_bytes() == content


def test_nothing_is_read_again_from_a_disk_that_is_slow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "data"
    in_small_pieces(path)
    monkeypatch.setattr(_prefault, "_SLOWEST", float("inf"))

    prefault(path)

    assert 0 < in_large_pages(path) <= 16 / 40


def test_weights_are_written_into_large_pages(tmp_path: Path) -> None:
    in_small_pieces(tmp_path / "data")
    rng = np.random.default_rng(0)
    weights = [ir.tensor(rng.integers(0, 9, (3 << 18, 1)).astype(np.uint8), name=f"w{i}") for i in range(54)]
    values = [
        ir.Value(name=t.name, const_value=t, shape=t.shape, type=ir.TensorType(t.dtype)) for t in weights
    ]
    graph = ir.Graph([], [], nodes=[], initializers=values, opset_imports={"": 21}, name="weights")

    save_model(ir.Model(graph, ir_version=10), tmp_path / "model.onnx")

    assert in_large_pages(tmp_path / "model.onnx.data") > 0.25


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
