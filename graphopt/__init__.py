"""Turns a trained model into a fast ONNX package that provably still behaves like it.

`import graphopt` loads nothing heavy: the verbs are imported on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from graphopt._telemetry import keep_quiet
from graphopt.errors import BadInput, CheckFailed, EnvironmentProblem, GraphoptError, Inconclusive

if TYPE_CHECKING:
    from graphopt._driver import Rejected, export_package, optimize
    from graphopt.package import Package

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

_LAZY = {
    "Package": "graphopt.package",
    "Rejected": "graphopt._driver",
    "export_package": "graphopt._driver",
    "optimize": "graphopt._driver",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
