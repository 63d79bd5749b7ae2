"""What is expected of a graph on a machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from graphopt.cost._queue import Queue
from graphopt.machine import Interval

__all__ = ["Bound", "Prediction", "Situation"]


@dataclass(frozen=True)
class Situation:
    """What is asked of a package: `batch` texts of `prompt` tokens, `new` ones written after each.

    `bandwidth` is what memory gives at the moment, in bytes a second, where that was just measured: a virtual
    machine's changes by half within minutes. `pulse` is what a call of `graphopt.machine.Pulse` takes at the
    moment, in seconds, likewise. None: what the profile says. `utilisation` is the share of the
    time that the machine is busy with such requests, less than 1; None: nobody waits.
    """

    prompt: int
    new: int
    batch: int = 1
    threads: int = 1
    bandwidth: float | None = None
    pulse: float | None = None
    utilisation: float | None = None


@dataclass(frozen=True)
class Bound:
    """A class of operators in a step: what it takes, what it reads and computes, and what bounds it.

    `floor` are the seconds that it would take at the bound alone: the machine's bandwidth or its peak.
    """

    seconds: Interval
    bytes: float
    flops: float
    by: str
    floor: float


@dataclass(frozen=True)
class Prediction:
    """By key of `graphopt.metrics.METRICS` what is expected, with the interval nine of ten measurements lie
    in; of a step of decoding and of the prompt the parts by class of operators. `widened` says why an
    interval is wide, `unknown` names nodes whose cost nothing is known of: then there are no times.

    `positions` are seconds a token by how many come before it, `queue` what a request waits for others.
    """

    metrics: Mapping[str, Interval]
    step: Mapping[str, Bound]
    prompt: Mapping[str, Bound]
    widened: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    positions: Mapping[int, Interval] = field(default_factory=dict)
    queue: Queue | None = None
