"""Other optimizers on the backend suite's cases, compared as ours is: `python -m tests.corpus.peers`.

Each runs without options in an environment with pinned versions (build/peers/optimizers); what it makes is
checked and run by the onnxruntime of this one. Results go to build/corpus/peers.jsonl and stay: nothing here
depends on graphopt's code.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from benchmarks.peers import ENVIRONMENTS, make, python
from tests._cache import ROOT
from tests.corpus._cases import data_cases, node_cases
from tests.corpus._check import Calls, Died, Refused, check_whole, loaded
from tests.corpus._limits import took_too_long
from tests.corpus._store import Store

__all__ = ["PEERS", "pinned"]

ENVIRONMENT = "optimizers"
PEERS = ("onnxsim", "onnxslim", "onnxoptimizer", "onnxscript")


class Optimizer:
    """One of them, in a process that is started anew where a model ends it."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._process: subprocess.Popen[str] | None = None

    def __call__(self, path: Path, calls: Calls) -> list[list[Any]]:
        """What its form of the model gives; `Refused` where it raises, `Died` where it ends its process."""
        out = path.with_name("after.onnx")
        asked = {"peer": self._name, "model": str(path), "out": str(out)}
        answer = self._ask(json.dumps(asked))
        if answer["error"]:
            raise Refused(answer["error"])
        return loaded(out, calls)

    def _ask(self, line: str) -> dict[str, str]:
        if self._process is None:
            self._process = subprocess.Popen(
                [str(python(ENVIRONMENT)), "-W", "ignore", "-m", "tests.corpus._peer_worker"],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        to, back = self._process.stdin, self._process.stdout
        assert to is not None
        assert back is not None
        print(line, file=to, flush=True)
        if said := back.readline():
            return dict(json.loads(said))
        code = self._process.wait()
        self.close()
        ended = signal.Signals(-code).name if code < 0 else f"exit status {code}"
        raise Died("it takes longer than a minute" if took_too_long(code) else f"its process ends: {ended}")

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            pipes: Sequence[IO[str] | None] = (self._process.stdin, self._process.stdout)
            for pipe in pipes:
                if pipe is not None:
                    pipe.close()
        self._process = None


def pinned(peer: str) -> str:
    """Its name and pinned version."""
    return next(pin.replace("==", " ") for pin in ENVIRONMENTS[ENVIRONMENT] if pin.startswith(f"{peer}=="))


def main() -> None:
    """Run what is not known yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", help="run these, and say what happens")
    parser.add_argument("--peer", choices=PEERS, action="append", help="only these")
    parser.add_argument("--fresh", action="store_true", help="forget every stored result")
    arguments = parser.parse_args()
    make(ENVIRONMENT)
    store = Store("peers", fresh=arguments.fresh, any_code=True)
    cases = arguments.cases or [*node_cases(), *data_cases()]
    for peer in arguments.peer or PEERS:
        optimizer = Optimizer(peer)
        for case in cases:
            name = f"{pinned(peer)}/{case}"
            if arguments.cases or name not in store:
                store.add(name, check_whole(case, optimizer, lambda stage: None))
            if arguments.cases:
                print(name, store[name])
        optimizer.close()
        found = [r for r in store.results() if r["name"].startswith(f"{pinned(peer)}/")]
        print(pinned(peer), dict(Counter(r["outcome"] for r in found)), flush=True)


if __name__ == "__main__":
    main()
