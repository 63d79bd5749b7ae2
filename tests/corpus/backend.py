"""Every case of the onnx package's backend suite, in every variation: `python -m tests.corpus.backend`.

Cases run in a worker process that is started anew where one kills it. Results go to
build/corpus/backend.jsonl; those of the same code and versions are taken from there.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from tests.corpus._cases import data_cases, node_cases, read
from tests.corpus._check import check
from tests.corpus._limits import HANGS, allow
from tests.corpus._store import Store
from tests.corpus._variations import VARIATIONS

SECONDS = 60
Name = tuple[str, str]


def _work(names: list[Name], pipe: Any) -> None:
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    for name, variation in names:
        allow(SECONDS)
        try:
            found = check(read(name), variation, pipe.send)
        except Exception as error:
            found = {"outcome": "crashed", "reason": f"the corpus itself: {type(error).__name__}: {error}"}
        pipe.send(found)


def run(names: list[Name]) -> Iterator[tuple[Name, dict[str, str]]]:
    """Check all of them. What ends its worker is `crashed`, or the runtime's own if the original did."""
    node_cases(), data_cases()
    left = list(names)
    while left:
        here, there = multiprocessing.get_context("fork").Pipe(duplex=False)
        worker = multiprocessing.get_context("fork").Process(target=_work, args=(left, there))
        worker.start()
        there.close()
        stage = "reading"
        while left:
            try:
                said = here.recv() if here.poll(HANGS) else None
            except EOFError:
                said = None
            if said is None:
                worker.kill()
                worker.join()
                found = {"outcome": "crashed", "reason": f"the process died or hung in {stage}"}
                if stage == "the original":
                    found["outcome"] = "runtime: cannot run"
                yield left.pop(0), found
                break
            if isinstance(said, str):
                stage = said
            else:
                yield left.pop(0), said
        worker.kill()
        worker.join()


def main() -> None:
    """Check what is not known yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", help="check these again")
    parser.add_argument("--fresh", action="store_true", help="forget every stored result")
    parser.add_argument("--any-code", action="store_true", help="take results of earlier code too")
    parser.add_argument("--again", action="append", default=[], help="forget results of this outcome")
    parser.add_argument(
        "--form", choices=list(VARIATIONS), action="append", help="check in these forms again"
    )
    arguments = parser.parse_args()
    store = Store("backend", fresh=arguments.fresh, any_code=arguments.any_code)
    store.forget([r["name"] for r in store.results() if r["outcome"] in arguments.again])
    forms = arguments.form or ()
    store.forget([r["name"] for r in store.results() if r["name"].rpartition("/")[2] in forms])
    cases = arguments.cases or [*node_cases(), *data_cases()]
    names = [(case, variation) for case in cases for variation in VARIATIONS]
    if not arguments.cases:
        names = [n for n in names if "/".join(n) not in store]
    for done, (name, found) in enumerate(run(names)):
        store.add("/".join(name), found)
        if arguments.cases:
            print(*name, found)
        if done % 500 == 0:
            print(done, "of", len(names), flush=True)
    print(dict(Counter(result["outcome"] for result in store.results())))


if __name__ == "__main__":
    main()
