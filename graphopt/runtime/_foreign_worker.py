"""A runtime in a process and an interpreter of its own: it loads models, runs them and tells about itself.

    python -I _foreign_worker.py SOCKET MEMORY ENGINE

Nothing of graphopt is imported here: Python's library, numpy, and what ENGINE, a file, imports. SOCKET and
MEMORY are file descriptors. Messages are JSON behind four bytes with their length; arrays lie in MEMORY, a
file that both sides map, and messages say where: [name, dtype, shape, offset].

An engine is a module with `load(path, settings)`, which gives an object with `run(feeds, wanted) -> dict` of
arrays, `nodes() -> list` and `facts() -> dict`; functions of its own are called by name. What it raises is an
answer, too: {"error": text}, with the name of the class.
"""

from __future__ import annotations

import importlib.util
import json
import mmap
import os
import socket
import struct
import sys
from typing import Any

import numpy as np

_LINE = 64
"""Where arrays begin: whole cache lines, which is all that kernels ask of memory."""


class Memory:
    """The file that both sides map. It grows as it must."""

    def __init__(self, fd: int) -> None:
        self._fd, self._end = fd, 0
        self._map: Any = None

    def begin(self, end: int) -> None:
        """What is written comes behind `end` bytes of the other side's."""
        self._end = end

    def read(self, dtype: str, shape: list[int], offset: int) -> np.ndarray[Any, Any]:
        count = int(np.prod(shape, dtype=np.int64))
        kind = np.dtype(dtype)
        self._reach(offset + count * kind.itemsize)
        return (
            np.frombuffer(self._map, kind, count, offset).reshape(shape) if count else np.empty(shape, kind)
        )

    def write(self, array: np.ndarray[Any, Any]) -> int:
        """Where `array` is now."""
        offset = -(-self._end // _LINE) * _LINE
        self._end = offset + array.nbytes
        self._reach(self._end)
        if array.nbytes:
            np.frombuffer(self._map, array.dtype, array.size, offset).reshape(array.shape)[...] = array
        return offset

    def _reach(self, end: int) -> None:
        if self._map is not None and end <= len(self._map):
            return
        size = max(os.fstat(self._fd).st_size, -(-end // mmap.PAGESIZE) * mmap.PAGESIZE, mmap.PAGESIZE)
        os.ftruncate(self._fd, size)
        self._map = mmap.mmap(self._fd, size)  # the old one lives as long as arrays of it do


class Worker:
    def __init__(self, engine: Any, memory: Memory) -> None:
        self._engine, self._memory = engine, memory
        self._model: Any = None
        self._held: dict[str, np.ndarray[Any, Any]] = {}

    def answer(self, asked: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = getattr(self, "do_" + asked.pop("do"))(**asked)
        return found

    def do_call(self, function: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """A function of the engine's own."""
        return {"result": getattr(self._engine, function)(**arguments)}

    def do_load(self, path: str, settings: dict[str, Any]) -> dict[str, Any]:
        self._model = self._engine.load(path, settings)
        return {"facts": self._model.facts()}

    def do_nodes(self) -> dict[str, Any]:
        return {"nodes": self._model.nodes()}

    def do_run(
        self,
        feeds: list[Any],
        end: int,
        wanted: list[str],
        held: dict[str, str] | None = None,
        keep: dict[str, str] | None = None,
    ) -> dict[str, Any]:
        """Run on `feeds` and on arrays `held` here, by input; `keep` results here, by output."""
        given = {name: self._memory.read(*where) for name, *where in feeds}
        given |= {name: self._held[key] for name, key in (held or {}).items()}
        keep = keep or {}
        found = self._model.run(given, [*wanted, *keep])
        self._memory.begin(end)
        results = []
        for name in wanted:
            array = np.asarray(found[name], order="C")  # ascontiguousarray makes rows of scalars
            results.append([name, array.dtype.str, list(array.shape), self._memory.write(array)])
        self._held |= {key: np.array(found[name]) for name, key in keep.items()}
        return {"results": results}

    def do_cut(self, axis: int, length: int) -> dict[str, Any]:
        """Keep the first `length` of what is held, along an axis."""
        self._held = {k: np.ascontiguousarray(a.take(range(length), axis)) for k, a in self._held.items()}
        return {}

    def do_held(self, end: int) -> dict[str, Any]:
        """What is held, by key."""
        self._memory.begin(end)
        return {
            "results": [[k, a.dtype.str, list(a.shape), self._memory.write(a)] for k, a in self._held.items()]
        }


def received(connection: socket.socket, count: int) -> bytes:
    """So many bytes, or fewer where the other side is gone."""
    found = b""
    while len(found) < count and (part := connection.recv(count - len(found))):
        found += part
    return found


def main() -> None:
    fd, memory, path = int(sys.argv[1]), Memory(int(sys.argv[2])), sys.argv[3]
    connection = socket.socket(fileno=fd)
    spec = importlib.util.spec_from_file_location("engine", path)
    assert spec is not None
    assert spec.loader is not None
    engine = importlib.util.module_from_spec(spec)
    worker = None
    while len(header := received(connection, 4)) == 4:
        asked = json.loads(received(connection, *struct.unpack(">I", header)))
        try:
            if worker is None:
                spec.loader.exec_module(engine)
                worker = Worker(engine, memory)
            answer = worker.answer(asked)
        except Exception as error:
            answer = {"error": f"{error}" or repr(error), "kind": type(error).__name__}
        said = json.dumps(answer).encode()
        connection.sendall(struct.pack(">I", len(said)) + said)


if __name__ == "__main__":
    main()
