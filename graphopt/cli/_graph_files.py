"""The graphs that an argument stands for."""

from __future__ import annotations

from pathlib import Path

from graphopt.errors import BadInput

__all__ = ["graph_files"]


def graph_files(model: Path) -> list[Path]:
    """The `.onnx` file `model`, or those of the package folder `model`, which may lie in a folder `onnx`."""
    if not model.exists():
        raise BadInput(f"{model} does not exist")
    if model.is_file():
        return [model]
    found = sorted(model.glob("*.onnx")) or sorted(model.glob("onnx/*.onnx"))
    if not found:
        raise BadInput(f"{model} holds no .onnx file")
    return found
