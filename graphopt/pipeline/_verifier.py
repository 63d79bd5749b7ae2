"""What the runner asks of whoever checks edits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import onnx_ir as ir

from graphopt.families import Assumption
from graphopt.interface import Adapter
from graphopt.pipeline._contract import Contract

if TYPE_CHECKING:
    from graphopt.pipeline._edit import Edit

__all__ = ["EditStatus", "EditVerdict", "Verifier"]


EditStatus = Literal["proven", "within budget", "unproven", "failed"]


@dataclass(frozen=True)
class EditVerdict:
    """What was found of one edit.

    `how`: structure, numeric, or deduplicated (an equal window was checked before).

    `value` is the worst difference that was met and `bound` what it may be, in the terms of the contract.
    `particular`: it differs on values chosen for the window's constants alone.
    """

    status: EditStatus
    how: str
    reason: str = ""
    value: float = 0.0
    bound: float = 0.0
    particular: bool = False


class Verifier(Protocol):
    """Whoever checks edits before they are applied: `graphopt.verify.EditVerifier`, or a stand-in."""

    @property
    def guesses(self) -> bool:
        """Whether nothing says which inputs are legal."""

    def check(
        self,
        model: ir.Model,
        edit: Edit,
        contract: Contract,
        adapters: Sequence[Adapter] = (),
        *,
        assumptions: Sequence[Assumption] = (),
        reads_since: int = 0,
        save: Path | None = None,
    ) -> EditVerdict:
        """Whether `edit` keeps what `contract` promises; `model` is as it is before the edit.

        `adapters` are those of earlier edits. Only calls that meet the `assumptions` count. `reads_since`:
        when the edit's pass began to read weights (a time of `graphopt.ir.read_clock`). What it takes to see
        a failure again goes to the folder `save`, which is not there where nothing failed.
        """
