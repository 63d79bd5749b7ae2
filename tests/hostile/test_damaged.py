"""Files that are damaged are refused by the loader, and by every command that reads a model."""

from __future__ import annotations

from pathlib import Path

import pytest

from graphopt.errors import BadInput
from graphopt.ir import load_model
from tests.hostile._limited import run_limited
from tests.hostile.files import DAMAGED, serialized

COMMANDS = (
    ("optimize", "net.onnx", "-o", "out", "--recipe", "lossless"),
    ("export", "net.onnx", "-o", "out"),
    ("inspect", "net.onnx"),
    ("diff", "net.onnx", "net.onnx"),
    ("bisect", "net.onnx", "-o", "out", "--recipe", "lossless"),
)
TYPICAL = ("cycle", "name_that_is_not_text", "nested_thousands_deep", "external_data_past_the_end")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the 16 bytes that the files with external data refer to."""
    made = tmp_path / "folder"
    made.mkdir()
    (made / "net.data").write_bytes(bytes(16))
    return made


@pytest.mark.parametrize("name", DAMAGED)
def test_the_loader_refuses(name: str, folder: Path) -> None:
    path = folder / "net.onnx"
    path.write_bytes(serialized(DAMAGED[name]()))
    with pytest.raises(BadInput):
        load_model(path)


@pytest.mark.parametrize("name", TYPICAL)
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_a_command_refuses_without_a_trace(command: tuple[str, ...], name: str, folder: Path) -> None:
    (folder / "net.onnx").write_bytes(serialized(DAMAGED[name]()))
    done = run_limited(command, folder)

    assert done.code == 2, done.err
    assert "Traceback" not in done.err
    assert "error: net.onnx" in done.err or "error: weight" in done.err
