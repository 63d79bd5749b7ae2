"""The command line in a process that may crash, hang or eat memory without harm to the test."""

from __future__ import annotations

import os
import resource
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from tests import _forked

__all__ = ["MEMORY", "SECONDS", "Outcome", "run_limited"]

MEMORY = 6 << 30
"""Bytes of address space; onnxruntime and the Python libraries take less than one of them."""
SECONDS = 30


@dataclass(frozen=True)
class Outcome:
    """How a run ended: the exit code (None: it was stopped after `SECONDS`), and what it said."""

    code: int | None
    out: str
    err: str


def run_limited(
    arguments: Sequence[str],
    folder: Path,
    *,
    memory: int = MEMORY,
    seconds: int = SECONDS,
    environment: Mapping[str, str] = MappingProxyType({}),
    site: Path | None = None,
) -> Outcome:
    """Run the command line in `folder` with limited memory and time, in this `environment`.

    What lies in `site` is as good as installed.
    """
    said = [folder.parent / f"{folder.name}.{stream}" for stream in ("out", "err")]
    process = _forked.CONTEXT.Process(
        target=_run, args=(list(arguments), folder, said, memory, dict(environment), site)
    )
    process.start()
    for _ in range(seconds):  # one by one: a machine that slept meanwhile is no reason to give up
        process.join(1.0)
        if process.exitcode is not None:
            break
    code = process.exitcode
    if code is None:
        process.kill()
        process.join()
    process.close()
    out, err = (path.read_text(encoding="utf-8", errors="replace") for path in said)
    return Outcome(code, out, err)


def _run(
    arguments: list[str],
    folder: Path,
    said: list[Path],
    memory: int,
    environment: dict[str, str],
    site: Path | None,
) -> None:
    os.environ.update(environment)
    for stream, path in zip((1, 2), said, strict=True):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    os.chdir(folder)
    resource.setrlimit(resource.RLIMIT_AS, (memory, resource.getrlimit(resource.RLIMIT_AS)[1]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from graphopt.cli._main import run
    from graphopt.plugins import registry
    from graphopt.verify import KernelWorker

    KernelWorker.start = _forked.start  # type: ignore[method-assign]

    if site is not None:
        sys.path.insert(0, str(site))
        os.environ["PYTHONPATH"] = str(site)
        registry._load_group.cache_clear()
    registry._configured.cache_clear()  # the folder is another
    code = run(arguments)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
