"""graphopt.lock: everything that shaped a package, resolved, so that it can be made again or told apart."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import platform
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field

from graphopt import registry

__all__ = [
    "LOCK",
    "Lock",
    "LockedPack",
    "LockedStep",
    "code_digest",
    "digest_of",
    "digests_below",
    "module_code",
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
    "onnxruntime",
    "onnxruntime-genai",
    "onnxscript",
    "safetensors",
    "torch",
    "transformers",
)


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
    `on_mismatch` and `closing_check` (`validate`) are options of `optimize`.
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
    dims: dict[str, list[int]] = Field(default_factory=dict)
    seeds: dict[str, int] = Field(default_factory=dict)
    versions: dict[str, str]
    packs: list[LockedPack]
    inputs: dict[str, str]
    outputs: dict[str, str]

    def write(self, folder: Path) -> None:
        """Write it as `folder`/graphopt.lock."""
        (folder / LOCK).write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")


def digest_of(path: Path) -> str:
    """`sha256:…` of a file's content."""
    with path.open("rb") as stream:
        return f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}"


def digests_below(folder: Path, files: Iterable[Path] | None = None) -> dict[str, str]:
    """Digests of `files` (default: every file below `folder`) by their path relative to `folder`."""
    chosen = sorted(files if files is not None else (p for p in folder.rglob("*") if p.is_file()))
    return {path.relative_to(folder).as_posix(): digest_of(path) for path in chosen}


def versions() -> dict[str, str]:
    """Versions of Python and of every installed library that shapes a result."""
    found: dict[str, str] = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def packs() -> list[LockedPack]:
    """Every pack in use with the digest of its code and data, and graphopt's own code as the first."""
    own = code_digest(Path(__file__).parent)
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


def module_code(name: str) -> str | None:
    """Digest of the package to which the imported module `name` belongs, or of a module outside of any.

    None where it has no file: it was typed in, or run with `python -c`.
    """
    parts = name.split(".")
    for count in range(1, len(parts) + 1):
        file = getattr(sys.modules.get(".".join(parts[:count])), "__file__", None)
        if file is not None:  # a namespace package has none
            path = Path(file)
            return code_digest(path.parent if path.stem == "__init__" else path)
    return None


@functools.cache
def code_digest(place: Path) -> str:
    """Digest of a file, or of all files of a folder, as they are when this is asked first."""
    if place.is_file():
        return digest_of(place)
    files = (p for p in place.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    return _combined(digests_below(place, files))


def _combined(digests: Mapping[str, str]) -> str:
    total = hashlib.sha256(
        "".join(f"{name}\0{digest}\0" for name, digest in sorted(digests.items())).encode()
    )
    return f"sha256:{total.hexdigest()}"
