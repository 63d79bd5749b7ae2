"""A process of another interpreter with a runtime in it, seen from outside."""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import signal
import socket
import struct
import subprocess
import tempfile
import time
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from graphopt.errors import EnvironmentProblem
from graphopt.runtime._interpreter import Interpreter

__all__ = ["RuntimeRefused", "RuntimeWorker"]

Array = NDArray[Any]

_WORKER = Path(__file__).with_name("_foreign_worker.py")
_SECONDS = 600.0
"""How long an answer may take. As `SECONDS` of a call: who takes longer hangs."""
_LOOK = 0.2
"""Seconds after which it is looked whether a run is still wanted."""
_LINE = 64
"""Where arrays begin in the memory that both processes map."""


class RuntimeRefused(RuntimeError):
    """What a runtime said of a model, or of arrays, that it does not run."""


class RuntimeWorker:
    """The process in which a runtime is, seen from outside. It ends with this object, or when it is closed.

    `engine` is the file that tells it what to do, `name` what errors call the runtime. Raises
    `EnvironmentProblem` where there is no interpreter, and where the process ends or gives no answer in
    `seconds`; `RuntimeRefused` with the runtime's words.
    """

    def __init__(self, interpreter: Interpreter, engine: Path, *, seconds: float = _SECONDS) -> None:
        self.name, self._seconds = interpreter.name, seconds
        python = interpreter.python()
        ours, theirs = socket.socketpair()
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (closed by `_ended`)
        self._fd = _memory()
        self._map: mmap.mmap | None = None
        with theirs:
            self._process = subprocess.Popen(
                [str(python), "-I", str(_WORKER), str(theirs.fileno()), str(self._fd), str(engine)],
                pass_fds=[theirs.fileno(), self._fd],
                stdin=subprocess.DEVNULL,
                stdout=self._errors,
                stderr=self._errors,
                start_new_session=True,
            )
        self._socket = ours
        self.close = weakref.finalize(self, _ended, self._process, ours, self._errors, self._fd)

    def ask(self, do: str, arguments: Mapping[str, Any], run_options: Any = None) -> dict[str, Any]:
        """The answer to a question of `_foreign_worker.Worker`.

        `run_options` are `onnxruntime.RunOptions`, whose `terminate` ends the process.
        """
        said = json.dumps({"do": do, **arguments}).encode()
        try:
            self._socket.sendall(struct.pack(">I", len(said)) + said)
            (size,) = struct.unpack(">I", self._received(4, run_options))
            answer: dict[str, Any] = json.loads(self._received(size, run_options))
        except OSError as error:
            raise self._died() from error
        if "error" in answer:
            if answer["kind"] in ("ImportError", "ModuleNotFoundError"):
                raise EnvironmentProblem(
                    f"the Python for {self.name} lacks something: {answer['error']}",
                    hint=f"graphopt targets doctor --install {self.name}",
                )
            raise RuntimeRefused(answer["error"])
        return answer

    def run(
        self,
        feeds: Mapping[str, Array],
        wanted: Sequence[str],
        *,
        held: Mapping[str, str] | None = None,
        keep: Mapping[str, str] | None = None,
        run_options: Any = None,
    ) -> dict[str, Array]:
        """The `wanted` results by name, which are the caller's own.

        `held` inputs are arrays that the process has kept by these keys, and results to `keep` it keeps.
        """
        places, end = [], 0
        given = {name: np.asarray(array, order="C") for name, array in feeds.items()}
        for array in given.values():
            end = -(-end // _LINE) * _LINE
            places.append(end)
            end += array.nbytes
        self._reach(end)
        for array, offset in zip(given.values(), places, strict=True):
            self._view(array.dtype, array.shape, offset)[...] = array
        where = [[n, a.dtype.str, list(a.shape), p] for (n, a), p in zip(given.items(), places, strict=True)]
        asked = {"feeds": where, "end": end, "wanted": list(wanted), "held": held, "keep": keep}
        return self.results(self.ask("run", asked, run_options))

    def results(self, answer: Mapping[str, Any]) -> dict[str, Array]:
        """Copies of the arrays that an answer tells of."""
        found = {}
        for name, dtype, shape, offset in answer["results"]:
            kind = np.dtype(dtype)
            self._reach(offset + kind.itemsize * int(np.prod(shape, dtype=np.int64)))
            found[name] = self._view(kind, shape, offset).copy()
        return found

    def _view(self, kind: np.dtype[Any], shape: Sequence[int], offset: int) -> Array:
        count = int(np.prod(shape, dtype=np.int64))
        if not count:
            return np.empty(shape, kind)
        assert self._map is not None
        return np.frombuffer(self._map, kind, count, offset).reshape(shape)

    def _reach(self, end: int) -> None:
        """Map the memory up to `end`, which the other side may have made larger."""
        if self._map is not None and end <= len(self._map):
            return
        size = max(os.fstat(self._fd).st_size, -(-end // mmap.PAGESIZE) * mmap.PAGESIZE, mmap.PAGESIZE)
        os.ftruncate(self._fd, size)
        self._map = mmap.mmap(self._fd, size)

    def _received(self, count: int, options: Any) -> bytes:
        found, late = b"", time.monotonic() + self._seconds
        self._socket.settimeout(_LOOK)
        while len(found) < count:
            try:
                part = self._socket.recv(count - len(found))
            except TimeoutError:
                if time.monotonic() > late or (options is not None and options.terminate):
                    self.close()
                    raise EnvironmentProblem(
                        f"{self.name} gave no answer in time, and its process was ended"
                    ) from None
                continue
            if not part:
                raise ConnectionError
            found += part
        return found

    def _died(self) -> EnvironmentProblem:
        try:
            status = self._process.wait(10)
        except subprocess.TimeoutExpired:
            status = None
        words: list[str] = []
        if not self._errors.closed:
            self._errors.seek(0)
            words = self._errors.read().decode(errors="replace").strip().splitlines()
        self.close()
        how = f"exit status {status}" if status is None or status >= 0 else signal.Signals(-status).name
        return EnvironmentProblem(
            f"the process of {self.name} ended ({': '.join([how, *words[-1:]])})",
            hint="It runs apart from graphopt's: nothing else is harmed.",
        )


def _memory() -> int:
    """A file in memory, where the system has such."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("graphopt")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _ended(process: subprocess.Popen[bytes], connection: socket.socket, errors: IO[bytes], fd: int) -> None:
    process.kill()
    process.wait()
    connection.close()
    errors.close()
    with contextlib.suppress(OSError):
        os.close(fd)
