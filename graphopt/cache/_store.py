"""Entries on disk: folders named by their keys, written beside their place and renamed into it."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from graphopt.cache._entry import Damaged, Header
from graphopt.io import exclusive, sync

__all__ = ["Listed", "Store"]

_PARTIAL = ".partial-"
_ABANDONED_SECONDS = 60.0
"""Age from which a partial entry that no process holds is removed: its maker holds it at once, unless the
machine stalls."""
_ABANDONED_UNHELD = 86400.0
"""The same where no folder can be held, as on Windows: longer than any run writes an entry. A judgement."""


@dataclass(frozen=True)
class Listed:
    """An entry as `graphopt cache list` tells it. `bytes` are its own: shared files count for the newest."""

    key: str
    source: str
    step: str
    bytes: int
    used: float


class Store:
    """Entries below `folder`, at most `size` bytes of them: those not used for longest go first.

    Any number of processes may use one folder. An entry is there whole or not at all; where two write the
    same one, the first stays. Methods raise `OSError` where the folder cannot be read or written.
    """

    def __init__(self, folder: Path, size: int) -> None:
        self.folder, self.size = folder, size

    def find(self, key: str) -> tuple[Path, Header] | None:
        """The entry's folder and header, marked as used; None where there is none."""
        place = self.folder / key
        if not place.is_dir():
            return None
        try:
            header = Header.read(place)
        except Damaged:
            self.drop(key)
            return None
        with contextlib.suppress(OSError):
            os.utime(place)
        return place, header

    def put(self, key: str, fill: Callable[[Path], None]) -> None:
        """Have `fill` write the entry's files into a folder, which then takes its place; keep to the size."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._remove_abandoned()
        with self._partial() as partial:
            fill(partial)
            sync(partial)
            if sum(p.stat().st_size for p in partial.rglob("*") if p.is_file()) > self.size:
                return
            # What is there already is as good.
            with contextlib.suppress(OSError):
                partial.rename(self.folder / key)
        self._evict(key)

    def drop(self, key: str) -> None:
        """Remove an entry; nothing where it is gone already."""
        with contextlib.suppress(OSError), self._partial() as partial:
            (self.folder / key).rename(partial / key)

    def entries(self) -> list[Listed]:
        """Every entry, the one used last first."""
        listed = []
        for place in self._places():
            try:
                header, used = Header.read(place), place.stat().st_mtime
            except (Damaged, OSError):
                header, used = Header(key=place.name, source="?", step="?", graphopt="?", created=0), 0.0
            listed.append((used, place, header))
        listed.sort(key=lambda one: (one[0], one[1].name), reverse=True)
        seen: set[tuple[int, int]] = set()
        return [Listed(h.key, h.source, h.step, _bytes(place, seen), used) for used, place, h in listed]

    def clear(self) -> tuple[int, int]:
        """Remove every entry; how many there were, and their bytes."""
        entries = self.entries()
        for entry in entries:
            self.drop(entry.key)
        if self.folder.is_dir():
            self._remove_abandoned()
        return len(entries), sum(entry.bytes for entry in entries)

    def _places(self) -> Iterator[Path]:
        if self.folder.is_dir():
            yield from (p for p in self.folder.iterdir() if _is_key(p.name) and p.is_dir())

    @contextlib.contextmanager
    def _partial(self) -> Iterator[Path]:
        partial = self.folder / f"{_PARTIAL}{secrets.token_hex(8)}"
        partial.mkdir()
        try:
            with exclusive(partial):
                yield partial
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def _evict(self, newest: str) -> None:
        while True:
            entries = self.entries()
            older = [entry.key for entry in entries if entry.key != newest]
            if not older or sum(entry.bytes for entry in entries) <= self.size:
                return
            self.drop(older[-1])

    def _remove_abandoned(self) -> None:
        """What killed processes left. One just begun may not be held yet."""
        for partial in self.folder.glob(f"{_PARTIAL}*"):
            with contextlib.suppress(OSError):
                age = time.time() - partial.stat().st_mtime
                with exclusive(partial) as ours:
                    if age > (_ABANDONED_SECONDS if ours else _ABANDONED_UNHELD):
                        shutil.rmtree(partial, ignore_errors=True)


def _is_key(name: str) -> bool:
    return len(name) == 64 and set(name) <= set("0123456789abcdef")


def _bytes(place: Path, seen: set[tuple[int, int]]) -> int:
    """Bytes of the files of an entry, links that were seen already excepted."""
    total = 0
    with contextlib.suppress(OSError):
        for path in (p for p in place.rglob("*") if p.is_file()):
            state = path.stat()
            if (state.st_dev, state.st_ino) not in seen:
                seen.add((state.st_dev, state.st_ino))
                total += state.st_size
    return total
