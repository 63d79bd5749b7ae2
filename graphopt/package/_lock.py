"""graphopt.lock: everything that shaped a package, resolved, so that it can be made again or told apart."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field

from graphopt.io import code_digest, module_code
from graphopt.plugins import registry

__all__ = [
    "LOCK",
    "Lock",
    "LockedPack",
    "LockedStep",
    "packs",
    "versions",
]

LOCK = "graphopt.lock"
_LIBRARIES = (
    "graphopt",
    "ml_dtypes",
    "numpy",
    "onnx",
    "onnx-ir",
    "onnxscript",
    "safetensors",
    "torch",
    "transformers",
)
_EVALUATOR = "onnxruntime"  # what constants are folded with, where no target is spoken of


class LockedStep(BaseModel):
    """One step of the recipe after `@lower` and `--set`, with every option, defaults included."""

    name: str
    options: dict[str, Any] = Field(default_factory=dict)


class LockedPack(BaseModel):
    """A pack of passes, targets or families: where it came from, and a digest of all its files."""

    group: str
    distribution: str
    version: str
    digest: str


class Lock(BaseModel):
    """The whole of graphopt.lock, written as JSON.

    `decisions` are choices that were made by measuring. `inputs` and `outputs` map files to their digests
    (`sha256:…`), inputs by name relative to the source, outputs relative to the package; the lock and the
    report are not among these. `seeds` are those of every random generator used. `stop_after`, `verify`,
    `on_mismatch`, `closing_check` (`validate`) and `cpu_fallback` are options of `optimize`.
    """

    version: Literal[1] = 1
    source: str
    task: str
    recipe: str
    steps: list[LockedStep]
    budget: dict[str, float | None]
    decisions: dict[str, Any] = Field(default_factory=dict)
    target: str
    fingerprint: dict[str, str] = Field(default_factory=dict)
    stop_after: str | None = None
    verify: Literal["off", "structure", "numeric"] = "numeric"
    on_mismatch: Literal["stop", "rollback"] = "stop"
    closing_check: bool = True
    cpu_fallback: bool = True
    dims: dict[str, list[int]] = Field(default_factory=dict)
    seeds: dict[str, int] = Field(default_factory=dict)
    versions: dict[str, str]
    packs: list[LockedPack]
    inputs: dict[str, str]
    outputs: dict[str, str]

    def write(self, folder: Path) -> None:
        """Write it as `folder`/graphopt.lock."""
        (folder / LOCK).write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")


def versions(libraries: Iterable[str] = (_EVALUATOR,)) -> dict[str, str]:
    """Versions of Python and of every installed library that shapes a result, a target's `libraries` too."""
    found: dict[str, str] = {"python": platform.python_version()}
    for name in sorted({*_LIBRARIES, *libraries}):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def packs() -> list[LockedPack]:
    """Every pack in use with the digest of its code and data, and graphopt's own code as the first."""
    own = code_digest(Path(__file__).parents[1])
    found = [
        LockedPack(group="graphopt", distribution="graphopt", version=versions()["graphopt"], digest=own)
    ]
    for origin in registry.origins():
        found.append(
            LockedPack(
                group=origin.group,
                distribution=origin.distribution,
                version=origin.version,
                digest=module_code(origin.module) or "?",
            )
        )
    return found
