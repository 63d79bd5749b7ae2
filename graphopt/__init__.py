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
    from graphopt.recipes import OptimizeOptions

__all__ = [
    "BadInput",
    "CheckFailed",
    "EnvironmentProblem",
    "GraphoptError",
    "Inconclusive",
    "OptimizeOptions",
    "Package",
    "Rejected",
    "export_package",
    "optimize",
]

keep_quiet()  # before anything imports onnxruntime

_LAZY = {
    "OptimizeOptions": "graphopt.recipes",
    "Package": "graphopt.build",
    "Rejected": "graphopt.build",
    "export_package": "graphopt.build",
    "optimize": "graphopt.build",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
