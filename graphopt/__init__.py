"""Turns a trained model into a fast ONNX package that provably still behaves like it.

`import graphopt` loads nothing heavy: the verbs are imported on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from graphopt.errors import BadInput, CheckFailed, EnvironmentProblem, GraphoptError, Inconclusive
from graphopt.io import keep_quiet

if TYPE_CHECKING:
    from graphopt.build import Package, Rejected, export_package, optimize

__all__ = [
    "BadInput",
    "CheckFailed",
    "EnvironmentProblem",
    "GraphoptError",
    "Inconclusive",
    "Package",
    "Rejected",
    "export_package",
    "optimize",
]

keep_quiet()  # before anything imports onnxruntime

_LAZY = frozenset({"Package", "Rejected", "export_package", "optimize"})


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module("graphopt.build"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
