"""What a pass may know beyond the graph: the target, the family, where to spill, and where to say things."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import onnx_ir as ir

from graphopt.calibrate import CalibrationData, Stream
from graphopt.errors import BadInput
from graphopt.families import Assumption
from graphopt.interface import adapt_feeds
from graphopt.ir import Expr, InMemory

if TYPE_CHECKING:
    from graphopt.families import InputDomain
    from graphopt.interface import Adapter, Arrays
    from graphopt.ir import Scratch
    from graphopt.pipeline._memory import Memory
    from graphopt.targets import Target

__all__ = ["LEFT_OUT", "Context"]

T = TypeVar("T")
_CALIBRATION = "calibration"
LEFT_OUT = "left out"
"""The decision that says which passes do not run."""
_LONG = 2.0
"""Seconds after which it is said how long something will still take."""
_SHARE = 4
"""Of a limit on memory a stream holds one part in so many; the rest is for weights and programs. A guess."""


def _silent(text: str) -> None:
    pass


@dataclass
class Context:
    """Everything around the graph. Passes read it and add to `notes`, `assumptions` and `decisions`.

    `domain` says what legal inputs are (None for a graph of unknown meaning), and `states` which of them hold
    what an earlier call left (`graphopt.families.Part.states`); `config` is the model's own configuration.
    `calibration` are calls with real content, where there are some, for the interface of the source;
    `adapters` lead from there to the model as it is. `progress` is told what is going on, and `memory` keeps
    what takes long for the next run.
    `assumptions` are conditions the package is only right under, by key; `decisions` are choices made by
    measurement or data, replayed from the lock when given. `spent` is what passes used of budgets that are
    one for the whole run, in bytes by the name of the pass. `max_ram` are the bytes that the run's processes
    may take together, where that is limited.
    """

    model: ir.Model
    target: Target | None = None
    domain: InputDomain | None = None
    states: Mapping[str, str] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    calibration: CalibrationData | None = None
    task: str = "onnx"
    scratch: Scratch | None = None
    notes: list[str] = field(default_factory=list)
    assumptions: dict[str, Assumption] = field(default_factory=dict)
    decisions: dict[str, Any] = field(default_factory=dict)
    spent: dict[str, int] = field(default_factory=dict)
    memo: dict[Any, Any] = field(default_factory=dict)
    adapters: Sequence[Adapter] = ()
    progress: Callable[[str], None] = _silent
    memory: Memory | None = None
    max_ram: int | None = None

    @property
    def opset(self) -> int:
        """Version of the default operator set the model is at."""
        return self.model.opset_imports.get("", 0)

    def stream(
        self, *, steps: int = 0, memory: int = 1 << 30, data: CalibrationData | None = None
    ) -> Stream | str:
        """Values of the graph on the calibration data, or on `data` made from them, or why there are none.

        Of each text the last `steps` tokens are read one in a call, as text is written, after the states that
        those before have left. It holds `memory` bytes of values between two questions; what is more lies
        beside the scratch file. Where memory is limited, it holds no more than a quarter of that.
        """
        whole = data = data or self.calibration
        if whole is None or data is None:
            return "there is nothing to calibrate on"
        if steps:
            data = data.in_steps(self.domain, steps) if self.domain is not None and self.states else None
            if data is None:
                return "the model leaves nothing from one call to the next"
        calls = self.calls(data)
        if isinstance(calls, str):
            return calls
        self.note(f"calibrated on {whole.name}: {whole.rows} {whole.unit}")
        if self.max_ram is not None:
            memory = min(memory, self.max_ram // _SHARE)
        folder = self.scratch.folder if self.scratch is not None else None
        return Stream(self.model.graph, calls, states=self.states, folder=folder, memory=memory)

    def calls(self, data: CalibrationData | None = None) -> list[Arrays] | str:
        """The calls of the calibration data, or of `data` made from them, as the graph takes them now; or why
        there are none. What rests on them is only right with the same data: the lock says with which.
        """
        data = data or self.calibration
        if data is None:
            return "there is nothing to calibrate on"
        calls: list[Arrays] = [adapt_feeds(self.adapters, feeds) for feeds in data]
        graph = self.model.graph
        needed = [v.name for v in graph.inputs if v.name not in graph.initializers]
        missing = [name for name in needed if name not in calls[0]]
        if missing:
            return f"what it is calibrated on has nothing for the input {missing[0]}"
        self.require_calibration()
        if self.calibration is not None:
            self.decisions.setdefault(_CALIBRATION, self.calibration.described())
        return calls

    @property
    def calibrated(self) -> dict[str, str] | None:
        """What `CalibrationData.described` says of the data, where a pass has calibrated on it; else None."""
        return self.decisions.get(_CALIBRATION)

    @property
    def left_out(self) -> Mapping[str, str]:
        """Names of passes that do not run, by a decision, and why."""
        return dict(self.decisions.get(LEFT_OUT, {}))

    def require_calibration(self) -> None:
        """Raise `BadInput` where decisions of an earlier run rest on other data than there are."""
        recorded, data = self.calibrated, self.calibration
        if recorded is not None and (data is None or data.digest != recorded.get("digest")):
            raise BadInput(
                f"the package was calibrated on {recorded.get('name')}, and that is not what there is now",
                hint="Give it with --calibration, as it was.",
            )

    def watch(self, items: Collection[T], what: str) -> Iterator[T]:
        """`items`, one after the other; the user is told which one it is, and how long the rest will take.

        `what` is being done to them, in words: "rounding".
        """
        started = time.monotonic()
        for done, item in enumerate(items):
            spent = time.monotonic() - started
            left = f", {_duration(spent / done * (len(items) - done))} left" if spent > _LONG else ""
            self.progress(f"{what} {done + 1} of {len(items)}{left}")
            yield item

    def remember(
        self, key: Any, compute: Callable[[], Arrays], *, for_any_options: bool = False
    ) -> dict[str, np.ndarray]:
        """The arrays that `compute` gives; those of an earlier run where it came as far and kept them.

        So a run that is interrupted loses what it was at, and nothing before. `key` (JSON-able) is what tells
        this result from the pass's others: the name of a weight, say. Everything else that it may depend on
        counts by itself: the graph as it was before the step, the pass's code and options, what it is
        calibrated on, decisions so far. With `for_any_options` the options do not, and the key has to name
        those that matter.
        """
        whole = self._whole(key)  # before `compute` decides anything
        known = None
        if self.memory is not None:
            known = self.memory.recall(whole, for_any_options=for_any_options)
        if known is None:
            known = dict(compute())
            if self.memory is not None:
                self.memory.keep(whole, known, for_any_options=for_any_options)
        return known

    def recall(self, key: Any, *, for_any_options: bool = False) -> dict[str, np.ndarray] | None:
        """What `remember` kept under `key` in an earlier run, or in this one; None where it kept nothing."""
        if self.memory is None:
            return None
        return self.memory.recall(self._whole(key), for_any_options=for_any_options)

    def _whole(self, key: Any) -> str:
        return json.dumps([key, self.calibration and self.calibration.digest, self.decisions], sort_keys=True)

    def store(self, rows: Iterable[np.ndarray], dtype: ir.DataType, shape: tuple[int, ...]) -> Expr:
        """A weight of this `dtype` and `shape` from `rows`, pieces of its first axis in order.

        It lies in the scratch file, so that no more than a piece is held; in memory where there is none.
        """
        if self.scratch is None:
            return InMemory(np.concatenate(list(rows)), dtype)
        return self.scratch.write(rows, dtype, shape)

    def note(self, text: str) -> None:
        """Tell the reader of the report something, once."""
        if text not in self.notes:
            self.notes.append(text)

    def assume(self, key: str, text: str) -> None:
        """Record a condition, in words, under which alone the package is right.

        One that rules calls out belongs to the edit that needs it: see `Edit`.
        """
        self.assumptions[key] = Assumption(key, text)

    def decide(self, key: str, choose: Callable[[], Any]) -> Any:
        """The recorded answer to `key`, or `choose()`'s, recorded (JSON-able)."""
        if key not in self.decisions:
            made = self.remember(["decision", key], lambda: {"answer": np.asarray(json.dumps(choose()))})
            self.decisions[key] = json.loads(str(made["answer"]))
        return self.decisions[key]


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
