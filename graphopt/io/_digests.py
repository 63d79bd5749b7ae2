"""Digests of files, folders and code."""

from __future__ import annotations

import functools
import hashlib
import sys
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path

__all__ = ["code_digest", "digest_of", "digests_below", "module_code"]


_AT_ONCE = 8 << 20
"""Bytes that are read and digested at a time. A judgement: each time costs a thread beside a busy one two
waits for the interpreter, of 5 ms each, in which it could digest as many."""


class Stopped(Exception):
    """A digest was no longer wanted."""


def digest_of(path: Path, *, unwanted: threading.Event | None = None) -> str:
    """`sha256:…` of a file's content. Raises `Stopped` once it is `unwanted`."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as stream:
        buffer = memoryview(bytearray(max(1, min(_AT_ONCE, path.stat().st_size))))
        while count := stream.readinto(buffer):
            digest.update(buffer[:count])
            if unwanted is not None and unwanted.is_set():
                raise Stopped
    return f"sha256:{digest.hexdigest()}"


def digests_below(folder: Path, files: Iterable[Path] | None = None) -> dict[str, str]:
    """Digests of `files` (default: every file below `folder`) by their path relative to `folder`."""
    chosen = sorted(files if files is not None else (p for p in folder.rglob("*") if p.is_file()))
    return {path.relative_to(folder).as_posix(): digest_of(path) for path in chosen}


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
