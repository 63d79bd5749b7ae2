"""A Python in which everything is imported already: programs that behave as `python` and `graphopt` do.

Importing what a command of graphopt needs takes two seconds, and tests start hundreds. Such a program hands
its arguments, folder, environment and streams to a server, which forks a process that runs them.
tests/evaluate/test_turns.py, tests/cli and tests/project/test_wheel.py have real ones.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any

from tests._cache import ROOT

__all__ = ["warm"]

_IMPORTED = (
    *(
        "onnx.reference",
        "onnx.version_converter",
        "torch",
        "transformers",
        "graphopt.build",
        "graphopt.export",
    ),
    *("graphopt.cli._main", "graphopt.evaluate", "graphopt_models", "graphopt_passes", "graphopt_targets"),
)
# Only arguments that begin so are run by the server; `python -m pip`, say, is a real one.
_CLIENT = """#!{python} -IS
import json, os, socket, sys
words = {first!r} + sys.argv[1:]
if words[:1] not in (["-c"], ["-P"]) and words[:2] != ["-m", "graphopt"]:
    os.execv({python!r}, [{python!r}, *words])
with socket.socket(socket.AF_UNIX) as server:
    server.connect({place!r})
    told = json.dumps([words, os.getcwd(), dict(os.environ)]).encode()
    socket.send_fds(server, [len(told).to_bytes(8, "little")], [0, 1, 2])
    server.sendall(told)
    code = server.recv(1)
if not code:
    os.kill(os.getpid(), 9)
sys.exit(code[0])
"""


@contextmanager
def warm(folder: Path) -> Iterator[Path]:
    """`folder` with the programs `python` and `graphopt`, which work within the block."""
    place = str(folder / "socket")
    for name, first in (("python", []), ("graphopt", ["-m", "graphopt"])):
        program = folder / name
        program.write_text(_CLIENT.format(python=sys.executable, first=first, place=place))
        program.chmod(0o755)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(place)
    listener.listen(64)
    with listener:
        command = [sys.executable, "-m", "tests._warm", str(listener.fileno()), str(folder)]
        server = subprocess.Popen(command, cwd=ROOT, pass_fds=[listener.fileno()], stdin=subprocess.DEVNULL)
    try:
        yield folder
    finally:
        server.kill()
        server.wait()


def serve(listener: socket.socket, folder: Path) -> None:
    """Fork a process for everyone who connects, until the process that started this one is gone."""
    _import(folder)
    gc.freeze()
    parent = os.getppid()
    signal.signal(signal.SIGCHLD, _reap)
    listener.settimeout(5)
    while os.getppid() == parent:
        try:
            client, _ = listener.accept()
        except TimeoutError:
            continue
        with client:
            if not os.fork():
                listener.close()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                _answer(client)


def _import(folder: Path) -> None:
    """Everything; what processes start in turn are forks, too."""
    for name in _IMPORTED:
        importlib.import_module(name)
    from graphopt.evaluate import _processes
    from graphopt.verify import KernelWorker
    from tests import _forked

    KernelWorker.start = _forked.start  # type: ignore[method-assign]
    _processes.sys = SimpleNamespace(executable=str(folder / "python"))  # type: ignore[assignment]


def _reap(_: int, __: FrameType | None) -> None:
    while True:
        try:
            if not os.waitpid(-1, os.WNOHANG)[0]:
                return
        except ChildProcessError:
            return


def _answer(client: socket.socket) -> None:
    client.settimeout(None)
    head, streams, _, _ = socket.recv_fds(client, 8, 3)
    left = int.from_bytes(head, "little")
    told = b""
    while len(told) < left:
        told += client.recv(left - len(told))
    words, folder, environment = json.loads(told)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdin = os.fdopen(0, closefd=False)
    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, errors="backslashreplace", closefd=False)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    threading.Thread(target=_end_with, args=(client,), daemon=True).start()
    code = _code_of(words)
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    client.send(bytes([code & 255]))
    os._exit(0)


def _end_with(client: socket.socket) -> None:
    """Nobody waits any more: the program was killed."""
    if not client.recv(1):
        os.kill(os.getpid(), signal.SIGKILL)


def _code_of(words: list[str]) -> int:
    """The exit status of `python WORDS`."""
    try:
        _run(words)
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
            return 1
        return end.code or 0
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _run(words: list[str]) -> None:
    more = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:1] = more if words[0] == "-P" else ["", *more]
    if words[0] == "-P":
        words = words[1:]
    if words[0] == "-c":
        sys.argv = ["-c", *words[2:]]
        main: dict[str, Any] = {"__name__": "__main__", "__builtins__": __builtins__}
        exec(compile(words[1], "<string>", "exec", dont_inherit=True), main)
    elif words[0] == "-m":
        sys.argv = words[1:]
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = words
        runpy.run_path(words[0], run_name="__main__")


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])), Path(sys.argv[2]))
