"""A cache on disk for what is expensive to build, safe when several pytest processes want the same thing."""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path

from filelock import FileLock

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("graphopt", "passes", "targets", "models")
SUFFIXES = {".py", ".c", ".h", ".toml", ".json", ".safetensors"}
PEERS = ("onnx", "onnx-ir", "onnxruntime", "onnxscript", "torch", "transformers")
KEPT_SECONDS = 2 * 3600


def digest_of(files: Iterable[Path], *texts: str) -> str:
    """The first 16 hex digits of a SHA-256 over names and contents of `files`, and over `texts`."""
    total = hashlib.sha256()
    for path in sorted(files):
        total.update(path.name.encode() + b"\0")
        with path.open("rb") as stream:
            total.update(hashlib.file_digest(stream, "sha256").digest())
    for text in texts:
        total.update(text.encode() + b"\0")
    return total.hexdigest()[:16]


@functools.cache
def source_digest() -> str:
    """Digest of everything that shapes a package: our source, the embedded model, the libraries' versions."""
    files = (p for folder in SOURCES for p in (ROOT / folder).rglob("*") if p.suffix in SUFFIXES)
    return digest_of(files, *(f"{name}=={version(name)}" for name in PEERS))


class Cache:
    """Named folders below build/test-cache/STATE, each built by whichever process comes first."""

    def __init__(self, state: str, root: Path = ROOT / "build" / "test-cache") -> None:
        self._root = root
        self._folder = root / state

    def get(self, name: str, build: Callable[[Path], None]) -> Path:
        """The folder `name`, filled by `build` if no process has done so."""
        done = self._folder / name
        self._folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self._folder / f"{name}.lock"):
            os.utime(self._folder)
            if not done.is_dir():
                self._drop_old_states()
                staging = self._folder / f"{name}.partial"
                shutil.rmtree(staging, ignore_errors=True)
                staging.mkdir()
                build(staging)
                staging.rename(done)
        return done

    def _drop_old_states(self) -> None:
        for state in self._root.iterdir():
            if time.time() - state.stat().st_mtime > KEPT_SECONDS:
                shutil.rmtree(state, ignore_errors=True)
