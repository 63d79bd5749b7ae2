"""The process that runs kernels, seen from outside: it is started when needed, and again when it dies."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any

from graphopt.verify._kernels import ComparisonRequest, Progress, Reply

__all__ = ["KernelWorker"]

MEMORY = 12 << 30
"""Bytes of address space that the worker may take. A judgement: both sides of the largest tile several
times over, and what a runtime reserves without using it."""
SECONDS = 120.0
"""How long one side of one run may take. A judgement: usual windows take milliseconds, so this one hangs."""


class KernelWorker:
    """Answers comparisons. A crash or a timeout is an answer too, and the next question starts it anew.

    A `with` statement ends its process.
    """

    def __init__(self, *, memory: int = MEMORY, seconds: float = SECONDS) -> None:
        self._memory, self._seconds = memory, seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: Connection | None = None
        self._ready = False

    def __enter__(self) -> KernelWorker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Start the process without waiting until it is ready."""
        if self._process is not None:
            return
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-P", "-m", "graphopt.verify._kernels", str(theirs.fileno())]
        with theirs:
            self._process = subprocess.Popen(
                [*command, "--memory", str(self._memory)],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        self._pipe = Connection(ours.detach())
        self._ready = False

    def ask(self, question: ComparisonRequest) -> Reply:
        """The worker's answer.

        Where it dies or hangs, the answer is "differs" if the replacement was running, with what it takes to
        see it again in `question.save`; if the original was, what the runs before that came to.
        """
        self.start()
        assert self._pipe is not None
        at = Progress("before", 0, Reply("undecided"))
        try:
            if not self._ready:
                self._ready = self._next() == "ready"
            self._pipe.send(question)
            while isinstance(said := self._next(), Progress):
                at = said
            reply: Reply = said
            return reply
        except TimeoutError:
            self.close()
            end, reason = "takes", f"longer than {self._seconds:.0f} s"
        except (EOFError, ConnectionError):
            end, reason = "ends", f"the process ({self._last_words()})"
        if at.side == "before":
            return at.known if at.known.ran else Reply("undecided", f"the original {end} {reason}")
        found = Reply("differs", f"the replacement {end} {reason}")
        if question.save is not None and question.died is None:
            self.ask(replace(question, died=(at.run, found.reason)))
        return found

    def _next(self) -> Any:
        assert self._pipe is not None
        if not self._pipe.poll(self._seconds):
            raise TimeoutError
        return self._pipe.recv()

    def _last_words(self) -> str:
        assert self._process is not None
        status = self._process.wait(10)
        self.close()
        return signal.Signals(-status).name if status < 0 else f"exit status {status}"

    def close(self) -> None:
        """End the process."""
        if self._pipe is not None:
            self._pipe.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._process = self._pipe = None
