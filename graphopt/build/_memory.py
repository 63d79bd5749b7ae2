"""A limit on the memory of a run, held to by the kernel's own high-water marks."""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path

from graphopt.build._clock import Progress
from graphopt.errors import BadInput, EnvironmentProblem
from graphopt.metrics import UNITS

__all__ = ["limited", "ram_bytes"]

_EVERY = 0.05
"""Seconds between looks at the marks: each holds what was before it, but for processes that have ended."""
_WRITTEN = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]+)")


def ram_bytes(text: str | None) -> int | None:
    """The bytes that "3GB" or "2.5GiB" says; None where nothing is asked. `BadInput` for what says none."""
    if text is None:
        return None
    written, units = _WRITTEN.fullmatch(text.strip()), UNITS["bytes"]
    if written is None or written[2] not in units:
        raise BadInput(f"--max-ram {text!r} is no size", hint=f"Write 3GB; units are {', '.join(units)}.")
    return int(float(written[1]) * units[written[2]])


@contextlib.contextmanager
def limited(max_ram: str | None, progress: Progress) -> Iterator[Progress]:
    """`progress`, which raises `BadInput` where what was said before took more than `max_ram`.

    The marks of this process and of those below it count together (VmHWM, mapped files included), as if all
    were at their highest at once. `EnvironmentProblem` where the system has no such marks.
    """
    limit = ram_bytes(max_ram)
    if max_ram is None or limit is None:
        yield progress
        return
    watch = _Watch()
    doing = "starting"

    def check() -> None:
        watch.look()
        if watch.most > limit:
            raise BadInput(
                f"--max-ram {max_ram}: {watch.most / 1e9:.2f} GB were taken by the end of: {doing}",
                hint="Allow more; less is needed with --no-validate, with --verify off, with a recipe that"
                " does not calibrate.",
            )

    def say(text: str) -> None:
        nonlocal doing
        check()
        doing = text
        progress(text)

    check()
    watch.start()
    try:
        yield say
    finally:
        watch.stop()


class _Watch:
    """`most`: the most bytes that the marks of living processes summed up to, this one and those below it."""

    def __init__(self) -> None:
        self.most = 0
        self._others = 0
        self._known: set[int] = set()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._go_on, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()

    def look(self) -> None:
        own = _mark(os.getpid())
        if own is None:
            raise EnvironmentProblem("--max-ram: this system does not say how much memory a process took")
        self.most = max(self.most, own + self._others)

    def _go_on(self) -> None:
        while not self._ended.wait(_EVERY):
            marks = {pid: _mark(pid) or 0 for pid in _below(os.getpid())}
            # A process that is being started still is this one: it counts from the second look on.
            self._others = sum(mark for pid, mark in marks.items() if pid in self._known)
            self._known = set(marks)
            self.look()


def _mark(pid: int) -> int | None:
    """Bytes; None where there is no such process, or no /proc."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return None
    found = (int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    return next(found, None)


def _below(pid: int) -> Iterator[int]:
    try:
        texts = [(task / "children").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
    except (FileNotFoundError, ProcessLookupError):
        return  # it, or one of its threads, has ended meanwhile
    for child in (int(word) for text in texts for word in text.split()):
        yield child
        yield from _below(child)
