"""What a pass may know beyond the graph: the target, the family, where to spill, and where to say things."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from graphopt.calibrate import CalibrationData, Stream
from graphopt.families import Assumption
from graphopt.ir import Expr, InMemory

if TYPE_CHECKING:
    from graphopt.families import InputDomain
    from graphopt.ir import Scratch
    from graphopt.targets import Target

__all__ = ["Context"]


@dataclass
class Context:
    """Everything around the graph. Passes read it and add to `notes`, `assumptions` and `decisions`.

    `domain` says what legal inputs are (None for a graph of unknown meaning), and `states` which of them hold
    what an earlier call left (`graphopt.families.Part.states`); `config` is the model's own configuration.
    `calibration` are calls with real content, where there are some.
    `assumptions` are conditions the package is only right under, by key; `decisions` are choices made by
    measurement or data, replayed from the lock when given. `spent` is what passes used of budgets that are
    one for the whole run, in bytes by the name of the pass.
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

    @property
    def opset(self) -> int:
        """Version of the default operator set the model is at."""
        return self.model.opset_imports.get("", 0)

    def stream(self) -> Stream | str:
        """Values of the graph on the calibration data, or why there are none."""
        if self.calibration is None:
            return "there is nothing to calibrate on"
        return Stream(self.model.graph, self.calibration)

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
            self.decisions[key] = choose()
        return self.decisions[key]
