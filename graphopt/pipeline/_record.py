"""What the report tells of passes and their edits, and what ends a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from graphopt.errors import CheckFailed
from graphopt.ir import node_name
from graphopt.pipeline._edit import Edit, NearMiss, Outcome
from graphopt.pipeline._verifier import EditVerdict

__all__ = ["EditRecord", "Mismatch", "PassCrashed", "PassRecord", "UndeclaredChange"]


@dataclass(frozen=True)
class EditRecord:
    """One edit as the report tells it: display number, stable identity, what it did and what became of it.

    `verdict` is proven, within budget, unproven or failed, None where nothing was checked; `reason` says why,
    `how` it was found (see `EditVerdict`) and `value` how far apart the two sides were. An edit in force has
    `removed` nodes, and `made` others in their place, both by name.
    """

    number: int
    identity: str
    summary: str
    outcome: str
    proof: str | None
    verdict: str | None = None
    how: str = ""
    reason: str = ""
    value: float = 0.0
    bound: float = 0.0
    removed: tuple[str, ...] = ()
    made: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        number: int,
        identity: str,
        edit: Edit,
        outcome: Outcome,
        verdict: EditVerdict | None,
        removed: Sequence[str],
    ) -> EditRecord:
        """`removed` are the names that nodes had before the edit gave their values to others."""
        proof = edit.proof.value if edit.proof else None
        record = cls(number, identity, edit.summary, outcome.value, proof)
        if outcome is Outcome.APPLIED:
            record = replace(record, removed=tuple(removed), made=tuple(map(node_name, edit.insert)))
        if verdict is None:
            return record
        return replace(
            record,
            verdict=verdict.status,
            how=proof or verdict.how,
            reason=verdict.reason,
            value=verdict.value,
            bound=verdict.bound,
        )


class UndeclaredChange(CheckFailed):
    """A pass that changed the model itself, where nothing checks it, and not through an edit."""

    def __init__(self, step: str, what: str) -> None:
        super().__init__(
            f"pass {step!r} changed the graph outside its edits: {what}",
            hint="A pass builds new nodes off the graph and proposes them: see docs/writing-a-pass.md.",
        )


class Mismatch(CheckFailed):
    """An edit that does not keep what its pass promises; it was not applied."""

    def __init__(
        self,
        record: PassRecord,
        identity: str,
        summary: str,
        verdict: EditVerdict,
        folder: Path | None,
        guessed: bool,
    ) -> None:
        hints = [f"To see it again: python reproduce.py in {folder}"] if folder and folder.is_dir() else []
        if guessed:
            hints.append("Its inputs are guesses; if none such are legal, say which are: --inputs FILE.npz")
        hints.append("To go on without such edits: --on-mismatch rollback")
        super().__init__(
            f"pass {record.step!r} ({record.contract}) changes results by edit {identity} ({summary}): "
            f"{verdict.reason}",
            hint="\n  ".join(hints),
        )
        self.identity = identity


@dataclass
class PassRecord:
    """One step as the report tells it. Bytes are those of the weights; `seconds` includes checking. Reads and
    flops are those of a call where every size that varies is 1; zeros where nobody weighed it.

    `cached`: an earlier run did it, and took so long.
    """

    step: str
    level: str
    contract: str
    options: dict[str, object]
    edits: list[EditRecord] = field(default_factory=list)
    near_misses: list[NearMiss] = field(default_factory=list)
    nodes_before: int = 0
    nodes_after: int = 0
    bytes_before: int = 0
    bytes_after: int = 0
    reads_before: int = 0
    reads_after: int = 0
    flops_before: int = 0
    flops_after: int = 0
    seconds: float = 0.0
    check_seconds: float = 0.0
    modified: bool = False
    skipped: str | None = None
    proved: str = ""
    cached: bool = False

    @property
    def applied(self) -> int:
        return sum(e.outcome == Outcome.APPLIED.value for e in self.edits)


class PassCrashed(Exception):
    """The code of a pass raised what no pass is expected to: `error`, in a step by the class `cls`.

    Who knows where the class comes from says who is to blame: see `graphopt.plugins.run_recipe`.
    """

    def __init__(self, step: str, cls: type, error: Exception) -> None:
        super().__init__(f"pass {step!r} failed: {type(error).__name__}: {error}")
        self.cls = cls
        self.error = error
