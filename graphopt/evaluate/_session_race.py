"""The fastest of many ways to set up a session, by successive halving over interleaved blocks.

Jamieson and Talwalkar 2016, *Non-stochastic best arm identification and hyperparameter optimization*: all are
measured a little, the worse half is given up, the rest is measured twice as long, until one is left.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from graphopt.package import MeasuredSetting
from graphopt.runtime import SessionSettings

__all__ = ["DEFAULT", "SessionRace", "Timer"]

DEFAULT = SessionSettings()
HOPELESS = 1.25
"""Times the default's seconds, in one process: chance has been seen to make a tenth of that difference."""
SCREENED = 2
"""Blocks of each setting alone, before several are put together."""


class Timer(Protocol):
    """What times sessions, each in a process of its own."""

    def alone(self, settings: SessionSettings) -> float | None:
        """Seconds of one process; None where it fails, or takes so long that it is ended."""

    def block(self, settings: Sequence[SessionSettings], number: int) -> list[float]:
        """Seconds of each, taking turns there and back, the geometric mean of both."""


class SessionRace:
    """Settings beside the default. `choices` are values to try by field of `SessionSettings`.

    First each value alone: a process of each, which gives up those that are hopeless, and then blocks in
    which all take turns with the default. What was faster in these is put together, the best first, and
    halved. Nothing of this decides that the winner is faster: it was chosen for having looked so.
    """

    def __init__(
        self,
        choices: Mapping[str, Sequence[Any]],
        timer: Timer,
        *,
        refuse: Callable[[SessionSettings], str] = lambda _: "",
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._choices, self._timer, self._refuse, self._say = choices, timer, refuse, say
        self._logs: dict[SessionSettings, list[float]] = {}
        self._out: dict[SessionSettings, str] = {}
        self._blocks = 0

    def winner(self) -> SessionSettings:
        """The settings that did best; the default where none did better."""
        singles = self._hopeful()
        self._run(singles, SCREENED)
        best: dict[str, SessionSettings] = {}
        for one in sorted(singles, key=self.speedup):
            if self.speedup(one) > 1:
                best[_of(one)] = one
            else:
                self._out[one] = "not faster"
        ranked = sorted(best.values(), key=self.speedup, reverse=True)
        for one in singles:
            if one not in ranked:
                self._out.setdefault(one, "another value was faster")
        return self._halved(_together(ranked))

    def speedup(self, settings: SessionSettings) -> float:
        """Times as fast as the default, by all blocks so far."""
        logs = self._logs[settings]
        return math.exp(sum(logs) / len(logs))

    def tried(self) -> tuple[MeasuredSetting, ...]:
        """Everything that was measured, the fastest first."""
        found = [
            MeasuredSetting(
                settings=one, speedup=self.speedup(one), blocks=len(logs), out=self._out.get(one, "")
            )
            for one, logs in self._logs.items()
        ]
        return tuple(sorted(found, key=lambda one: -one.speedup))

    def _hopeful(self) -> list[SessionSettings]:
        """Each value alone, but for those that are refused, fail, or are far slower."""
        kept = []
        own = self._timer.alone(DEFAULT)
        assert own is not None
        for field, values in self._choices.items():
            for value in values:
                one = SessionSettings.model_validate({field: value})
                self._say(f"sessions: {one}")
                if self._refuse(one):
                    continue
                seconds = self._timer.alone(one)
                if seconds is None or seconds > HOPELESS * own:
                    self._logs[one] = [-math.inf if seconds is None else math.log(own / seconds)]
                    self._out[one] = "failed, or took too long" if seconds is None else "far slower"
                else:
                    kept.append(one)
        return kept

    def _run(self, settings: Sequence[SessionSettings], blocks: int) -> None:
        for _ in range(blocks if settings else 0):
            self._say(f"sessions: {len(settings)} settings, block {self._blocks + 1}")
            own, *seconds = self._timer.block([DEFAULT, *settings], self._blocks)
            self._blocks += 1
            for one, took in zip(settings, seconds, strict=True):
                self._logs.setdefault(one, []).append(math.log(own / took))

    def _halved(self, settings: Sequence[SessionSettings]) -> SessionSettings:
        alive, blocks = list(settings), 1
        while len(alive) > 1:
            self._run(alive, blocks)
            alive.sort(key=self.speedup, reverse=True)
            kept = alive[: (len(alive) + 1) // 2]
            for one in alive[len(kept) :]:
                self._out.setdefault(one, "others were faster")
            alive, blocks = kept, 2 * blocks
        for one in alive:
            self._out.pop(one, None)
        return alive[0] if alive else DEFAULT


def _of(one: SessionSettings) -> str:
    """What a single value is of: its field, or its provider's option."""
    return one.options[0][0] if one.options else next(iter(one.told()))


def _together(ranked: Sequence[SessionSettings]) -> list[SessionSettings]:
    """Each alone, and the best two, three, ... of different fields as one."""
    found = list(ranked)
    joined = DEFAULT
    for one in ranked:
        joined = joined.joined(one)
        found.append(joined)
    return list(dict.fromkeys(found))
