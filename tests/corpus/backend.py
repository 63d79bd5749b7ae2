"""Every case of the onnx package's backend suite, in every form: `python -m tests.corpus.backend`.

A form is a variation, or `graphopt optimize` without options of the case as it is ("at the defaults").
Cases run in worker processes, each started anew where a case kills it. Results go to
build/corpus/backend.jsonl; those of the same code and versions are taken from there.
"""

from __future__ import annotations

import argparse
import multiprocessing
import multiprocessing.connection
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from graphopt.verify import KernelWorker
from tests import _forked
from tests.corpus._cases import data_cases, node_cases, read
from tests.corpus._check import Result, by_default, check, check_whole
from tests.corpus._limits import HANGS, allow
from tests.corpus._store import Store
from tests.corpus._variations import VARIATIONS

SECONDS = 60
DEFAULTS = "at the defaults"
FORMS = (DEFAULTS, *VARIATIONS)
Name = tuple[str, str]


def _work(names: list[Name], pipe: Any) -> None:
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    KernelWorker.start = _start  # type: ignore[method-assign]
    for name, form in names:
        allow(SECONDS)
        try:
            found = _checked(name, form, pipe.send)
        except Exception as error:
            found = {"outcome": "crashed", "reason": f"the corpus itself: {type(error).__name__}: {error}"}
        pipe.send(found)


def _start(worker: KernelWorker) -> None:
    _forked.start_in(_forked.CONTEXT, worker)


def _checked(name: str, form: str, stage: Callable[[str], None]) -> Result:
    if form == DEFAULTS:
        return check_whole(name, by_default, stage)
    return check(read(name), form, stage)


class _Worker:
    """A process that checks its share of the cases, and is started anew where one ends it."""

    def __init__(self, names: Sequence[Name]) -> None:
        self.left = list(names)
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("fork")
        self.pipe, there = context.Pipe(duplex=False)
        self._process = context.Process(target=_work, args=(self.left, there))
        self._process.start()
        there.close()
        self._stage = "reading"

    def heard(self, hangs: bool) -> Iterator[tuple[Name, dict[str, str]]]:
        """What it has to say, if it does not hang."""
        try:
            said = None if hangs else self.pipe.recv()
        except EOFError:
            said = None
        if isinstance(said, str):
            self._stage = said
        elif said is not None:
            yield self.left.pop(0), said
        else:
            found = {"outcome": "crashed", "reason": f"the process died or hung in {self._stage}"}
            if self._stage == "the original":
                found["outcome"] = "runtime: cannot run"
            yield self.left.pop(0), found
        if self.left and said is None:
            self.stop()
            self._start()

    def stop(self) -> None:
        """Have it run no longer."""
        self._process.kill()
        self._process.join()


def run(names: Sequence[Name], jobs: int) -> Iterator[tuple[Name, dict[str, str]]]:
    """Check all of them. What ends its worker is `crashed`, or the runtime's own if the original did."""
    node_cases(), data_cases()
    running = [_Worker(share) for i in range(jobs) if (share := names[i::jobs])]
    while running:
        ready = multiprocessing.connection.wait([w.pipe for w in running], HANGS)
        for worker in [w for w in running if w.pipe in ready or not ready]:
            yield from worker.heard(hangs=not ready)
            if not worker.left:
                worker.stop()
                running.remove(worker)


def main() -> None:
    """Check what is not known yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", help="check these again")
    parser.add_argument("--fresh", action="store_true", help="forget every stored result")
    parser.add_argument("--any-code", action="store_true", help="take results of earlier code too")
    parser.add_argument("--again", action="append", default=[], help="forget results of this outcome")
    parser.add_argument("--form", choices=FORMS, action="append", help="only in these forms, and again")
    cores = len(os.sched_getaffinity(0))
    parser.add_argument("--jobs", type=int, default=cores, help="so many cases at a time")
    arguments = parser.parse_args()
    store = Store("backend", fresh=arguments.fresh, any_code=arguments.any_code)
    store.forget([r["name"] for r in store.results() if r["outcome"] in arguments.again])
    store.forget(
        [r["name"] for r in store.results() if r["name"].rpartition("/")[2] in (arguments.form or ())]
    )
    cases = arguments.cases or [*node_cases(), *data_cases()]
    names = [(case, form) for case in cases for form in arguments.form or FORMS]
    if not arguments.cases:
        names = [n for n in names if "/".join(n) not in store]
    for done, (name, found) in enumerate(run(names, arguments.jobs)):
        store.add("/".join(name), found)
        if arguments.cases:
            print(*name, found)
        if done % 500 == 0:
            print(done, "of", len(names), flush=True)
    for form in arguments.form or FORMS:
        outcomes = (r["outcome"] for r in store.results() if r["name"].rpartition("/")[2] == form)
        print(form, dict(Counter(outcomes)))


if __name__ == "__main__":
    main()
