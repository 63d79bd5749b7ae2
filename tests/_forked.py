"""Processes forked from one in which what they need is imported already.

Importing onnx and onnxruntime takes most of a second, and hundreds of tests start a process that runs
kernels.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from graphopt.verify import KernelWorker, _kernels

__all__ = ["CONTEXT", "start", "start_in"]

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests._preload"])


class _Process:
    """What `KernelWorker` needs of a `subprocess.Popen`."""

    def __init__(self, process: BaseProcess) -> None:
        self._process = process
        process.start()

    def kill(self) -> None:
        self._process.kill()

    def wait(self, seconds: float | None = None) -> int:
        self._process.join(seconds)
        assert self._process.exitcode is not None
        return self._process.exitcode


def start(worker: KernelWorker) -> None:
    """`KernelWorker.start`, by a fork: of the server in the tests' own process, of a server's child in it."""
    start_in(CONTEXT if "pytest" in sys.modules else multiprocessing.get_context("fork"), worker)


def start_in(context: Any, worker: KernelWorker) -> None:
    """`KernelWorker.start`, by a process of this context of multiprocessing."""
    if worker._process is not None:
        return
    ours, theirs = multiprocessing.Pipe()
    process = context.Process(target=_serve, args=(theirs, worker._memory), daemon=True)
    worker._process = _Process(process)  # type: ignore[assignment]
    theirs.close()
    worker._pipe = ours
    worker._ready = False


def _serve(pipe: Connection, memory: int) -> None:
    os.setsid()
    for stream in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    sys.argv = ["kernels", str(pipe.fileno()), "--memory", str(memory)]
    _kernels.main()
