"""Runs both sides of windows in a process of its own, which may crash, hang or eat memory without harm."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import onnx

from graphopt._arrays import parts_of
from graphopt.ir import Expr, payload, tiles
from graphopt.verify._reproducer import save_reproducer
from graphopt.verify._tolerance import compare, tolerance_of
from graphopt.verify._varied import varied
from graphopt.verify._window import Piece

if TYPE_CHECKING:
    from graphopt.pipeline import Contract

__all__ = ["Comparison", "Progress", "Reply", "Run"]

Arrays = Mapping[str, np.ndarray]

_WORTH_KEEPING = 1 << 20
_NOTHING = np.empty(0)


@dataclass(frozen=True)
class Run:
    """One call of a window: feeds by leaf, and for each output what of it is specified (None: all).

    `finite`: whether no feed has NaN or infinite entries on purpose. `steps`: how often a loop in it adds to
    a sum.
    """

    name: str
    feeds: Arrays
    valid: Sequence[np.ndarray | None]
    finite: bool = True
    steps: int = 1


@dataclass(frozen=True)
class Comparison:
    """What the worker is asked: run both pieces and say whether they agree as `contract` promises.

    `longest` is the longest sum in them, but for loops. Where they do not agree, what it takes to see that
    goes to `save`. `free`: no result may depend on what the stored weights hold, so they are varied. `died`:
    the run that an earlier worker did not survive, and what to say of it; nothing is run then, only saved.
    """

    before: Piece
    after: Piece
    runs: Sequence[Run]
    contract: Contract
    longest: int
    threads: int
    save: Path | None = None
    free: bool = False
    died: tuple[int, str] | None = None


@dataclass(frozen=True)
class Reply:
    """`value` is the worst of all runs, with what bounds it; `ran`, how many runs decided something."""

    status: Literal["same", "differs", "undecided"]
    reason: str = ""
    value: float = 0.0
    bound: float = 0.0
    ran: int = 0


@dataclass(frozen=True)
class Progress:
    """Said before a side runs: which, in which run, and what is known so far."""

    side: Literal["before", "after"]
    run: int
    known: Reply


class _Side:
    """A piece, and once it is opened a session of onnxruntime, its own optimizations off."""

    def __init__(self, piece: Piece, held: dict[Any, np.ndarray], *, free: bool) -> None:
        model = onnx.ModelProto.FromString(piece.model)
        self.fed: dict[str, np.ndarray] = {}
        for name, weight in piece.weights.items():
            array = _read(varied(weight.expr) if free else weight.expr, held)
            if weight.fed:
                self.fed[name] = array
            else:
                tensor = model.graph.initializer.add(name=name, data_type=weight.expr.dtype.value)
                tensor.dims.extend(weight.expr.shape)
                tensor.raw_data = payload(array, weight.expr.dtype).tobytes()
        self.model = model

    def open(self, threads: int) -> _Side:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 4
        options.intra_op_num_threads = threads
        self.session = ort.InferenceSession(
            self.model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        self.inputs = {i.name for i in self.session.get_inputs()}
        return self

    def __call__(self, feeds: Arrays) -> list[dict[str, np.ndarray]]:
        """The arrays of each output, by where in it they are."""
        known = {name: array for name, array in (*feeds.items(), *self.fed.items()) if name in self.inputs}
        return [dict(parts_of("", y)) for y in self.session.run(None, known)]


def _read(expr: Expr, held: dict[Any, np.ndarray]) -> np.ndarray:
    if expr.identity not in held:
        array = _room(expr, taken=[id(a.base) for a in held.values()])
        for region, tile in tiles(expr):
            array[region] = tile
        held[expr.identity] = array
    return held[expr.identity]


_buffers: dict[int, np.ndarray] = {}


def _room(expr: Expr, taken: Sequence[int]) -> np.ndarray:
    """An array for the weight, in memory that an earlier one of its size had: fresh pages are dear."""
    size = prod(expr.shape) * expr.dtype.numpy().itemsize  # packed types take a byte an element here
    known = _buffers.get(size)
    if known is None or id(known) in taken or size < _WORTH_KEEPING:
        known = np.empty(size, np.uint8)
        if size >= _WORTH_KEEPING:
            _buffers[size] = known
    return known.view(expr.dtype.numpy()).reshape(expr.shape)


def answer(asked: Comparison, tell: Callable[[Progress], None]) -> Reply:
    """Run and compare; `tell` is told what is about to run."""
    held: dict[Any, np.ndarray] = {}
    worst = Reply("undecided", "no legal inputs were found")
    first: Arrays = asked.runs[0].feeds if asked.runs else {}
    tell(Progress("before", 0, worst))
    try:
        before = _Side(asked.before, held, free=asked.free)
        if asked.died is None:
            before.open(asked.threads)
    except Exception as error:
        return Reply("undecided", f"onnxruntime cannot run the original: {_line(error)}")
    tell(Progress("after", 0, worst))
    try:
        after = _Side(asked.after, held, free=asked.free)
    except MemoryError:
        raise
    except Exception as error:
        return Reply("differs", f"the weights of the new form cannot be read: {_line(error)}")
    if asked.died is not None:
        index, reason = asked.died
        return _saved(asked, before, after, asked.runs[index].feeds, Reply("differs", reason))
    try:
        after.open(asked.threads)
    except Exception as error:
        if "NOT_IMPLEMENTED" in str(error):
            return Reply("undecided", f"onnxruntime has no kernel for the new form: {_line(error)}")
        found = Reply("differs", f"the new form does not load: {_line(error)}")
        return _saved(asked, before, after, first, found)
    for number, run in enumerate(asked.runs):
        tell(Progress("before", number, worst))
        try:
            expected = before(run.feeds)
        except Exception as error:
            if not worst.ran:
                worst = Reply("undecided", f"the original fails on the inputs tried: {_line(error)}")
            continue
        tell(Progress("after", number, worst))
        try:
            got = after(run.feeds)
        except Exception as error:
            found = Reply("differs", f"{run.name}: the new form fails: {_line(error)}")
            return _saved(asked, before, after, run.feeds, found)
        pairs = [
            (array, other.get(part, _NOTHING), valid)
            for one, other, valid in zip(expected, got, run.valid, strict=True)
            for part, array in one.items()
        ]
        for array, other, valid in pairs:
            a, b = _specified(array, other, run, valid, asked.contract)
            terms = asked.longest * run.steps
            verdict = compare(a, b, tolerance_of(asked.contract, a.dtype, terms))
            if not verdict:
                found = Reply("differs", f"{run.name}: {verdict.reason}", verdict.value, verdict.bound)
                return _saved(asked, before, after, run.feeds, found)
            worst = _worse(worst, verdict.value, verdict.bound, asked.contract)
    return worst


def _specified(
    expected: np.ndarray, got: np.ndarray, run: Run, valid: np.ndarray | None, contract: Contract
) -> tuple[np.ndarray, np.ndarray]:
    """What of two results must agree; all of them where their shapes differ."""
    if expected.shape != got.shape:
        return expected, got
    parts = [np.asarray(True) if valid is None else valid]
    if contract.kind == "reassociates" and not run.finite and expected.dtype.kind in "fV":
        # Another order may stop a NaN that was multiplied by zero, but not spread it.
        parts.append(np.isfinite(expected.astype(np.float64)))
    kept: np.ndarray = np.ones(expected.shape, bool)
    for part in parts:
        kept &= part
    if kept.all():
        return expected, got
    if contract.kind == "lossy":
        kept = np.asarray(kept.all(-1))  # the metrics look at rows
    return expected[kept], got[kept]


def _worse(known: Reply, value: float, bound: float, contract: Contract) -> Reply:
    larger_is_worse = contract.metric not in ("cosine", "sqnr")
    first = known.status != "same"
    kept = value if first or (value > known.value) == larger_is_worse else known.value
    return Reply("same", "", kept, bound, known.ran + 1)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _saved(asked: Comparison, before: _Side, after: _Side, feeds: Arrays, found: Reply) -> Reply:
    if asked.save is not None:
        models = {"before": (before.model, before.fed), "after": (after.model, after.fed)}
        save_reproducer(asked.save, models, feeds, found.reason)
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("handle", type=int)
    parser.add_argument("--memory", type=int)
    args = parser.parse_args()
    with contextlib.suppress(ImportError):
        import resource

        if args.memory:
            _, most = resource.getrlimit(resource.RLIMIT_AS)
            memory = args.memory if most == resource.RLIM_INFINITY else min(args.memory, most)
            resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    import onnxruntime  # noqa: F401  # now: whoever asks first need not wait for it

    pipe = Connection(args.handle)
    pipe.send("ready")
    while True:
        try:
            asked = pipe.recv()
        except EOFError:
            return
        except Exception as error:
            pipe.send(Reply("undecided", f"the process that runs kernels cannot read it: {_line(error)}"))
            continue
        try:
            pipe.send(answer(asked, pipe.send))
        except MemoryError:
            pipe.send(Reply("undecided", "it needs more memory than the limit"))
        except Exception as error:
            pipe.send(Reply("undecided", f"the comparison fails: {type(error).__name__}: {_line(error)}"))


if __name__ == "__main__":
    from graphopt.verify import _kernels

    _kernels.main()  # its classes must be pickled under the name that both processes know
