"""Workers: processes that are started together and measure one after the other."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from graphopt.errors import BadInput, EnvironmentProblem
from graphopt.evaluate._measurement import Measurement
from graphopt.evaluate._worker import READY

__all__ = ["LIMIT", "measured"]

WORKER = Path(__file__).with_name("_worker.py")
LIMIT = 1800.0
"""Seconds after which a worker counts as hung: a model whose text takes half an hour is too slow to bench."""


def measured(
    jobs: Sequence[Sequence[str]], look: Callable[[], None] = lambda: None, *, seconds: float = LIMIT
) -> list[Measurement]:
    """One measurement for each job, in their order, each in a process of its own.

    A job is what the worker is told: a folder, and how to measure it. `look` is called after each.

    All are started before the first measures: importing takes longer than a small model, several processes
    do it side by side, and the measurements then follow each other closely. None works while another
    measures.

    Raises `BadInput` for what a worker finds wrong with its input, `EnvironmentProblem` with the last words
    of one that dies, prints nonsense, or takes longer than `seconds` for anything.
    """
    workers: list[_Worker] = []
    try:
        for job in jobs:
            workers.append(_Worker(job))
        for worker in workers:
            worker.await_ready(seconds)
        found = []
        for worker in workers:
            found.append(worker.measure(seconds))
            look()
        return found
    finally:
        for worker in workers:
            worker.end()


class _Worker:
    def __init__(self, job: Sequence[str]) -> None:
        self._folder = job[0]
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (`end` closes it)
        # -P: the folder that the file lies in is no place to import from.
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(WORKER), *job],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )

    def await_ready(self, seconds: float) -> None:
        assert self._process.stdout is not None
        lines = iter(self._process.stdout.readline, "")
        said = self._within(seconds, lambda: next((line for line in lines if line.strip() == READY), ""))
        if not said:
            self._process.wait()
            raise self._died()

    def measure(self, seconds: float) -> Measurement:
        said = self._within(seconds, lambda: self._process.communicate("\n")[0])
        if self._process.returncode:
            raise self._died()
        try:
            return Measurement.of(json.loads(said.splitlines()[-1]))
        except (IndexError, KeyError, TypeError, ValueError) as error:
            last = (said.strip().splitlines() or ["nothing"])[-1]
            raise EnvironmentProblem(f"measuring {self._folder} printed no measurement: {last}") from error

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            if stream is not None:
                stream.close()

    def _within(self, seconds: float, said: Callable[[], str]) -> str:
        """What the worker says; it is ended where it does not within `seconds`."""
        late = threading.Event()

        def end() -> None:
            late.set()
            self._process.kill()

        timer = threading.Timer(seconds, end)
        timer.start()
        try:
            found = said()
        finally:
            timer.cancel()
        if late.is_set():
            raise EnvironmentProblem(
                f"measuring {self._folder} took longer than {seconds:.0f} s and was ended"
            )
        return found

    def _died(self) -> Exception:
        self._errors.seek(0)
        errors = self._errors.read().decode(errors="replace").strip()
        status = self._process.returncode
        if status == BadInput.exit_code:
            return BadInput(errors)
        last = (errors.splitlines() or [f"exit status {status}"])[-1]
        return EnvironmentProblem(f"measuring {self._folder} failed: {last}")
