"""Whatever happens to the process that runs kernels, the one that asks goes on."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from graphopt.ir import parse, to_proto
from graphopt.pipeline import Contract
from graphopt.verify._kernels import Comparison, Run
from graphopt.verify._window import Piece, Weight
from graphopt.verify._worker import KernelWorker

MODEL = """
<ir_version: 10, opset_import: ["" : 23]>
g (float[N] x, float[4] w) => (float[N] y0)
{
  y0 = Mul(x, w)
}
"""


POISON = '''
"""A weight that does something to the process that reads it."""
import os, time
from dataclasses import dataclass
import numpy as np
import onnx_ir as ir
from graphopt.ir import Expr

@dataclass(frozen=True, eq=False)
class Poison(Expr):
    what: str
    shape = (4,)
    dtype = ir.DataType.FLOAT

    def _identity(self):
        return ("poison", self.what)

    def read(self, region=None):
        if self.what == "abort":
            os.abort()
        if self.what == "sleep":
            time.sleep(60)
        if self.what == "eat":
            np.ones(1 << 40)
        return np.ones(4, np.float32)
'''


@pytest.fixture(autouse=True)
def both_know_the_poison(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "graphopt_poison.py").write_text(POISON)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.delitem(sys.modules, "graphopt_poison", raising=False)


def asked(what: str) -> Comparison:
    Poison = importlib.import_module("graphopt_poison").Poison
    piece = Piece(to_proto(parse(MODEL)).SerializeToString(), {"w": Weight(Poison(what), True)})
    run = Run("a run", {"x": np.ones(4, np.float32)}, [None])
    return Comparison(piece, piece, [run], Contract.exact(), 4, 1)


@pytest.fixture
def worker() -> Iterator[KernelWorker]:
    made = KernelWorker(memory=8 << 30, seconds=20)
    yield made
    made.close()


def test_a_crash_is_an_answer(worker: KernelWorker) -> None:
    reply = worker.ask(asked("abort"))
    assert (reply.status, reply.reason) == ("differs", "onnxruntime dies of it (SIGABRT)")
    assert worker.ask(asked("nothing")).status == "same"


def test_hanging_is_an_answer(worker: KernelWorker) -> None:
    worker.ask(asked("nothing"))
    worker._seconds = 1
    reply = worker.ask(asked("sleep"))
    assert (reply.status, reply.reason) == ("undecided", "it takes longer than 1 s")
    worker._seconds = 20
    assert worker.ask(asked("nothing")).status == "same"


def test_memory_is_limited(worker: KernelWorker) -> None:
    reply = worker.ask(asked("eat"))
    assert reply.status == "undecided"
    assert "llocat" in reply.reason
    assert worker.ask(asked("nothing")).status == "same"


def test_nothing_is_left_behind(worker: KernelWorker) -> None:
    worker.ask(asked("nothing"))
    process = worker._process
    assert process is not None
    worker.close()
    assert process.poll() is not None
