"""Runs both sides of windows in a process of its own, which may crash, hang or eat memory without harm."""

from __future__ import annotations

import argparse
import contextlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import onnx

from graphopt.interface import Arrays
from graphopt.io import parts_of
from graphopt.ir import Expr, payload, tiles
from graphopt.metrics import METRICS
from graphopt.verify._reproducer import save_reproducer
from graphopt.verify._tolerance import compare, tolerance_of
from graphopt.verify._varied import varied
from graphopt.verify._window import Piece

if TYPE_CHECKING:
    from graphopt.pipeline import Contract

__all__ = ["TOO_LARGE", "ComparisonRequest", "Progress", "Reply", "Run"]

_WORTH_KEEPING = 1 << 20
"""Bytes from which memory is used again. A judgement: of less, fresh pages cost nothing to speak of."""
_NOTHING = np.empty(0)
_INSTEAD_OF_NAN = 30.0
"""Far enough from what is usual that a result which depends on it changes, and `exp` of it is finite."""
TOO_LARGE = "too large to run"


@dataclass(frozen=True)
class Run:
    """One call of a window: feeds by leaf, and for each output what of it is specified (None: all).

    `finite`: whether no feed has NaN or infinite entries on purpose. `steps`: how often a loop in it adds to
    a sum. `particular`: its values were chosen by the window's constants, so one from further up that happens
    to be another says nothing against it. `magnitude`: values of more are taken for masked ones, which do not
    say how large the others are.
    """

    name: str
    feeds: Arrays
    valid: Sequence[np.ndarray | None]
    finite: bool = True
    steps: int = 1
    particular: bool = False
    magnitude: float = math.inf


@dataclass(frozen=True)
class ComparisonRequest:
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
    """`value` is the worst of all runs, with what bounds it; `ran`, how many runs decided something.

    `particular`: they differ on values chosen by the window's constants, and on no others before.
    """

    status: Literal["same", "differs", "undecided"]
    reason: str = ""
    value: float = 0.0
    bound: float = 0.0
    ran: int = 0
    particular: bool = False


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
        # Some kernels write into what they are given: running means of BatchNormalization.
        known = {name: np.array(array) for name, array in feeds.items() if name in self.inputs}
        known |= {name: array for name, array in self.fed.items() if name in self.inputs}
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


def answer(asked: ComparisonRequest, tell: Callable[[Progress], None]) -> Reply:
    """Run and compare; `tell` is told what is about to run."""
    held: dict[Any, np.ndarray] = {}
    worst = Reply("undecided", "no legal inputs were found")
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
        return Reply("differs", f"the weights of the replacement cannot be read: {_line(error)}")
    if asked.died is not None:
        index, reason = asked.died
        return _saved(asked, before, after, asked.runs[index].feeds, Reply("differs", reason))
    try:
        after.open(asked.threads)
    except Exception as error:
        if "NOT_IMPLEMENTED" in str(error):
            return Reply("undecided", f"onnxruntime has no kernel for the replacement: {_line(error)}")
        found = Reply("differs", f"the replacement does not load: {_line(error)}")
        first: Arrays = asked.runs[0].feeds if asked.runs else {}
        return _saved(asked, before, after, first, found)
    return _compared(asked, before, after, worst, tell)


def _compared(
    asked: ComparisonRequest, before: _Side, after: _Side, worst: Reply, tell: Callable[[Progress], None]
) -> Reply:
    """The first run in which the sides differ, or the worst of all."""
    too_large = ""
    for number, run in enumerate(asked.runs):
        tell(Progress("before", number, worst))
        try:
            expected = before(run.feeds)
        except Exception as error:
            if not worst.ran:
                why = f"the original fails on the inputs tried: {_line(error)}"
                worst = Reply("undecided", TOO_LARGE if _is_of_memory(error) else why)
            continue
        tell(Progress("after", number, worst))
        try:
            got = after(run.feeds)
        except Exception as error:
            if _is_of_memory(error):
                too_large = too_large or f"{TOO_LARGE} with {run.name}"
                continue
            why = f"{run.name}: the replacement fails: {_line(error)}"
            found = Reply("differs", why, particular=run.particular)
            return _saved(asked, before, after, run.feeds, found)
        worst = _with_results(asked, before, after, run, expected, got, worst)
        if worst.status == "differs":
            return _saved(asked, before, after, run.feeds, worst)
    return Reply("undecided", too_large) if too_large else worst


def _with_results(
    asked: ComparisonRequest,
    before: _Side,
    after: _Side,
    run: Run,
    expected: Sequence[Arrays],
    got: Sequence[Arrays],
    worst: Reply,
) -> Reply:
    """`worst` with what this run gave: where it differs, the reply says so."""
    for index, (one, other) in enumerate(zip(expected, got, strict=True)):
        for part, array in one.items():
            found = other.get(part, _NOTHING)
            a, b = _specified(array, found, run, run.valid[index], asked.contract)
            tolerance = tolerance_of(asked.contract, a.dtype, asked.longest * run.steps)
            agreement = compare(a, b, tolerance, run.magnitude)
            reason = agreement.reason
            if agreement and not run.finite and asked.contract.kind == "reassociates":
                reason = _stopped(before, after, run, index, part, array, found)
            if reason:
                said = f"{run.name}: {reason}"
                return Reply("differs", said, agreement.value, agreement.bound, particular=run.particular)
            worst = _worse(worst, agreement.value, agreement.bound, asked.contract)
    return worst


def _is_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or any(
        said in str(error) for said in ("Failed to allocate memory", "bad_alloc", "bad allocation")
    )


def _stopped(
    before: _Side,
    after: _Side,
    run: Run,
    index: int,
    part: str,
    expected: np.ndarray,
    got: np.ndarray,
) -> str:
    """Where the replacement makes a number of a NaN, and the original's result depends on what was NaN.

    It does not where the NaN is masked, or multiplied by zero. Then another order may stop it.
    """
    if expected.shape != got.shape or not _lost(expected, got).any():
        return ""
    feeds = {name: _without(array, np.isinf, 1.0) for name, array in run.feeds.items()}
    lost = _lost(before(feeds)[index][part], after(feeds)[index][part])
    low, high = (
        before({name: _without(array, np.isnan, instead) for name, array in feeds.items()})[index][part]
        for instead in (-_INSTEAD_OF_NAN, _INSTEAD_OF_NAN)
    )
    count = int(np.count_nonzero(lost & (low != high)))
    return f"{count} of {lost.size} values are no longer NaN" if count else ""


def _lost(expected: np.ndarray, got: np.ndarray) -> np.ndarray:
    if expected.dtype.kind not in "fV":
        return np.zeros(expected.shape, bool)
    return np.isnan(expected.astype(np.float64)) & ~np.isnan(got.astype(np.float64))


def _without(array: np.ndarray, test: Callable[[np.ndarray], np.ndarray], instead: float) -> np.ndarray:
    if array.dtype.kind not in "fV":
        return array
    return np.where(test(array.astype(np.float64)), array.dtype.type(instead), array)


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
    larger_is_worse = contract.metric is None or METRICS[contract.metric].better == "smaller"
    first = known.status != "same"
    kept = value if first or (value > known.value) == larger_is_worse else known.value
    return Reply("same", "", kept, bound, known.ran + 1)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _saved(asked: ComparisonRequest, before: _Side, after: _Side, feeds: Arrays, found: Reply) -> Reply:
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
            pipe.send(Reply("undecided", TOO_LARGE))
        except Exception as error:
            pipe.send(Reply("undecided", f"the comparison fails: {type(error).__name__}: {_line(error)}"))


if __name__ == "__main__":
    from graphopt.verify import _kernels

    _kernels.main()  # its classes must be pickled under the name that both processes know
