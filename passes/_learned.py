"""Learned rounding of weights, where PyTorch is installed."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from graphopt.calibrate import CalibrationData
from graphopt.interface import adapt_feeds
from graphopt.ir import Expr, tiles
from graphopt.pipeline import Context

from ._forms import Form
from ._nbits import Packed

__all__ = ["Learning", "Unit", "learn", "unlearnable"]

Feeds = Mapping[str, Any]

_MOST = 64 << 20  # weights: some 24 bytes of state each, and a minute's work for a tenth of it
_HELD_OUT = 5  # one call of so many is held out
_ENOUGH = 8  # calls held out at most: some 4,000 tokens tell better from worse, and each is computed twice
_LOGITS = "logits"


@dataclass(frozen=True)
class Unit:
    """A weight float32 [N, K], how it is to be packed, and what another method made of it.

    `gathered`: Gathers from it read the packed rows, too.
    """

    name: str
    rows: Expr
    form: Form
    packed: Packed
    gathered: bool = True


@dataclass(frozen=True)
class Learning:
    """`steps` of Adam at `rate`, in levels of a weight a step; `level`: MatMulNBits' accuracy level."""

    steps: int = 480
    rate: float = 0.006
    level: int = 4


def unlearnable(weights: Iterable[Expr], data: CalibrationData | None) -> str | None:
    """Why it cannot be learned on `data` how these `weights` [N, K] are rounded, before any is; or None."""
    count = sum(math.prod(rows.shape) for rows in {rows.identity: rows for rows in weights}.values())
    if importlib.util.find_spec("torch") is None:
        return "learning it needs PyTorch, which is not installed"
    if data is None:
        return "there is nothing to learn it on"
    if len(data.calls) < _HELD_OUT:
        return (
            f"{len(data.calls)} calls of calibration data are too few to learn it on: {_HELD_OUT} are needed"
        )
    if count > _MOST:
        return f"{count:,} weights are too many to be learned together: at most {_MOST:,}"
    return None


def learn(
    graph: ir.Graph,
    units: Sequence[Unit],
    context: Context,
    learning: Learning | None = None,
    data: CalibrationData | None = None,
) -> Mapping[str, Packed]:
    """What `units` round to, by name, such that the outputs of `graph` are least off on `data`.

    These are the calibration data of `context` where none are given.

    All weights move together, end to end, while activations are rounded as the kernel will: outputs that are
    distributions (logits) are held to the source's by KL divergence, others by squared error. This is
    distillation into rounded weights (BitDistiller, arXiv 2402.10631), which begins with the levels that
    another method chose and may leave them for any others (PV-tuning, arXiv 2405.14852).
    Of one call in five nothing is learned: where these are not less off than before, or where anything stands
    in the way, which is noted, the result is empty. It is the same for any number of threads; PyTorch's sums
    differ in their last bits between processors, and so may levels.
    """
    if not units:
        return {}
    made = _learned(graph, units, context, learning or Learning(), data or context.calibration)
    if isinstance(made, str):
        context.note(f"weights keep the rounding they began with: {made}")
        return {}
    return made


def _learned(
    graph: ir.Graph,
    units: Sequence[Unit],
    context: Context,
    learning: Learning,
    data: CalibrationData | None,
) -> Mapping[str, Packed] | str:
    reason = unlearnable((unit.rows for unit in units), data)
    if reason is not None or data is None:
        return reason or ""
    calls = [adapt_feeds(context.adapters, feeds) for feeds in data]
    share = max(_HELD_OUT, len(calls) // _ENOUGH)
    held, seen = calls[share - 1 :: share][:_ENOUGH], [c for i, c in enumerate(calls) if (i + 1) % share]
    return _end_to_end(graph, units, context, learning, seen, held)


def _distinct(units: Sequence[Unit]) -> dict[Hashable, Unit]:
    return {unit.rows.identity: unit for unit in units}


def _end_to_end(
    graph: ir.Graph,
    units: Sequence[Unit],
    context: Context,
    learning: Learning,
    seen: Sequence[Feeds],
    held: Sequence[Feeds],
) -> Mapping[str, Packed] | str:
    import torch

    from ._learned_graph import Learner
    from ._learned_weight import LearnedWeight
    from ._torch_graph import TorchGraph, Unsupported

    distinct = _distinct(units)
    exact = {
        key: torch.from_numpy(np.concatenate([tile for _, tile in tiles(unit.rows)]))
        for key, unit in distinct.items()
    }
    blocks = {
        key: unit.form.block if learning.level == 4 and unit.form.bits < 8 else None
        for key, unit in distinct.items()
    }
    tables = {key for key, unit in distinct.items() if unit.gathered}
    try:
        piece = TorchGraph(graph, _outputs(graph, context), blocks, tables)
        weights = {key: LearnedWeight(exact[key], unit.form, unit.packed) for key, unit in distinct.items()}
        learner = Learner(graph, piece, weights, exact)
        if not learner.faithful(held[0]):
            return "PyTorch computes other outputs than onnxruntime"
    except Unsupported as reason:
        return str(reason)
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        return f"PyTorch does not take it: {error!r}"  # a spelling of an operator that is not foreseen
    before = learner.error(held)
    steps = context.watch(range(learning.steps), "learning how weights are rounded: step")
    learner.learn(seen, steps, learning.steps, learning.rate)
    after = learner.error(held)
    if not after < before:
        return f"on calls held out the learned one is off by {after:.3g}, it by {before:.3g}"
    return {unit.name: weights[unit.rows.identity].packed() for unit in units}


def _outputs(graph: ir.Graph, context: Context) -> list[ir.Value]:
    """Those that are answers, not what is left to the next call."""
    left = set(context.states.values())
    answers = [v for v in graph.outputs if v.name not in left and v.dtype == ir.DataType.FLOAT]
    return [v for v in answers if v.name == _LOGITS] or answers
