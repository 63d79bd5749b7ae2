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
from graphopt.verify import KernelWorker
from graphopt.verify._kernels import ComparisonRequest, Run
from graphopt.verify._window import Piece, Weight

MODEL = """
<ir_version: 10, opset_import: ["" : 23]>
g (float[N] x, float[4] w) => (float[N] y0)
{
  y0 = Mul(x, w)
}
"""


POISON = '''
"""A weight that does something to the process that reads it, and a kernel that cannot bear an input."""
import ctypes, os, sys, time
from dataclasses import dataclass
import numpy as np
import onnx_ir as ir
import onnxruntime
from graphopt.ir import Expr

class Delicate(onnxruntime.InferenceSession):
    def run(self, outputs, feeds):
        if feeds.get("boom", 0) == 1:
            ctypes.string_at(0)
        if feeds.get("boom", 0) == 2:
            time.sleep(60)
        return super().run(outputs, feeds)

if "pytest" not in sys.modules:  # only in the process that runs kernels
    onnxruntime.InferenceSession = Delicate

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
def forked_kernels() -> None:
    """The process starts as it does for users."""


@pytest.fixture(autouse=True)
def both_know_the_poison(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "graphopt_poison.py").write_text(POISON)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.delitem(sys.modules, "graphopt_poison", raising=False)


def asked(
    what: str = "nothing", side: str = "after", boom: int = 0, save: Path | None = None
) -> ComparisonRequest:
    """Two runs of equal pieces. The one at `side` has the weight, and meets the input in the second run."""
    Poison = importlib.import_module("graphopt_poison").Poison
    pieces = {}
    for name in ("before", "after"):
        text = MODEL if name != side else MODEL.replace("float[4] w)", "float[4] w, float boom)")
        weight = Weight(Poison(what if name == side else "nothing"), True)
        pieces[name] = Piece(to_proto(parse(text)).SerializeToString(), {"w": weight})
    x = np.ones(4, np.float32)
    runs = [Run("a run", {"x": x, "boom": np.asarray(b, np.float32)}, [None]) for b in (0, boom)]
    return ComparisonRequest(pieces["before"], pieces["after"], runs, Contract.exact(), 4, 1, save)


@pytest.fixture
def worker() -> Iterator[KernelWorker]:
    made = KernelWorker(memory=8 << 30, seconds=20)
    yield made
    made.close()


def test_a_crash_is_an_answer(worker: KernelWorker) -> None:
    reply = worker.ask(asked("abort"))
    assert (reply.status, reply.reason) == ("differs", "the replacement ends the process (SIGABRT)")
    assert worker.ask(asked()).status == "same"


def test_a_segmentation_fault_of_the_new_form_is_saved(worker: KernelWorker, tmp_path: Path) -> None:
    reply = worker.ask(asked(boom=1, save=tmp_path / "saved"))
    assert (reply.status, reply.reason) == ("differs", "the replacement ends the process (SIGSEGV)")
    names = {path.name for path in (tmp_path / "saved").iterdir()}
    assert names == {"before.onnx", "after.onnx", "inputs.npz", "reproduce.py"}
    assert np.load(tmp_path / "saved" / "inputs.npz")["boom"] == 1


def test_a_crash_of_the_original_does_not_blame_the_new_form(worker: KernelWorker) -> None:
    reply = worker.ask(asked("abort", "before"))
    assert (reply.status, reply.reason) == ("undecided", "the original ends the process (SIGABRT)")
    reply = worker.ask(asked(side="before", boom=1))
    assert (reply.status, reply.ran) == ("same", 1)


def test_hanging_is_an_answer(worker: KernelWorker) -> None:
    for side, status, reason in (
        ("before", "undecided", "the original takes longer than 1 s"),
        ("after", "differs", "the replacement takes longer than 1 s"),
    ):
        worker._seconds = 20
        assert worker.ask(asked()).status == "same"
        worker._seconds = 1
        reply = worker.ask(asked("sleep", side))
        assert (reply.status, reply.reason) == (status, reason)


def test_memory_is_limited(worker: KernelWorker) -> None:
    reply = worker.ask(asked("eat", "before"))
    assert reply.status == "undecided"
    assert "llocat" in reply.reason
    assert worker.ask(asked()).status == "same"


def test_nothing_is_left_behind(worker: KernelWorker) -> None:
    worker.ask(asked())
    process = worker._process
    assert process is not None
    worker.close()
    assert process.poll() is not None
