"""Whoever writes to what is measured is found out, and the file named."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from graphopt import BadInput, EnvironmentProblem
from graphopt.io import digest_of
from graphopt.package import Unchanged


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "package" / "tokenizer").mkdir(parents=True)
    (tmp_path / "package" / "model.onnx").write_bytes(b"graph")
    (tmp_path / "package" / "tokenizer" / "vocab.json").write_bytes(b"{}")
    return tmp_path / "package"


def test_what_stays_passes(folder: Path) -> None:
    model = folder / "model.onnx"
    with Unchanged(folder, folder, model) as unchanged:
        model.read_bytes()
        unchanged.look()

    assert unchanged.digests == {path: digest_of(path) for path in sorted(folder.rglob("*.*"))}


def rewritten(folder: Path) -> Path:
    (folder / "model.onnx").write_bytes(b"Graph")
    return folder / "model.onnx"


def added(folder: Path) -> Path:
    (folder / "more").write_bytes(b"")
    return folder / "more"


def removed(folder: Path) -> Path:
    (folder / "tokenizer" / "vocab.json").unlink()
    return folder / "tokenizer" / "vocab.json"


def swapped(folder: Path) -> Path:
    """As `optimize --force` does it: another folder takes the place, files as large and as old as before."""
    said = (folder / "model.onnx").stat()
    folder.rename(folder.with_name("before"))
    (folder / "tokenizer").mkdir(parents=True)
    (folder / "tokenizer" / "vocab.json").hardlink_to(folder.with_name("before") / "tokenizer" / "vocab.json")
    (folder / "model.onnx").write_bytes(b"other")
    os.utime(folder / "model.onnx", ns=(said.st_atime_ns, said.st_mtime_ns))
    return folder / "model.onnx"


@pytest.mark.parametrize("change", [rewritten, added, removed, swapped])
def test_what_changes_is_named(folder: Path, change: Callable[[Path], Path]) -> None:
    unchanged = Unchanged(folder)
    path = change(folder)

    with pytest.raises(BadInput, match="changed while it was measured") as said:
        unchanged.look()
    assert said.value.message.startswith(f"{path} ")
    with pytest.raises(BadInput), unchanged:
        pass


def test_content_that_changes_without_a_trace_is_found_in_the_end(folder: Path) -> None:
    model = folder / "model.onnx"
    said = model.stat()
    unchanged = Unchanged(folder)
    with model.open("r+b") as stream:
        stream.write(b"GRAPH")
    os.utime(model, ns=(said.st_atime_ns, said.st_mtime_ns))

    unchanged.look()
    with pytest.raises(BadInput, match=r"model\.onnx changed"):
        unchanged.verify()


def test_an_error_inside_is_not_hidden(folder: Path) -> None:
    def failing() -> None:
        with Unchanged(folder):
            rewritten(folder)
            raise EnvironmentProblem("died")

    with pytest.raises(EnvironmentProblem):
        failing()
