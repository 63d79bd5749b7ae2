"""What is known of each unit that is stored in some form or other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from graphopt.plan._damages import Together

__all__ = ["Choice", "Table", "Unit"]


@dataclass(frozen=True)
class Choice:
    """A `form` that a unit may be stored in ("4/128", say), and what that costs.

    `damage` is the KL divergence that it makes alone, in nats a token, `bytes` what it takes, and `seconds`
    how long its products take of one token, where that is known.
    """

    form: str
    damage: float
    bytes: int
    seconds: float | None = None


@dataclass(frozen=True)
class Unit:
    """Weights that are stored in one form: their `names`, and how many `entries` they have in all."""

    names: tuple[str, ...]
    entries: int
    choices: tuple[Choice, ...]

    def choice(self, form: str) -> Choice:
        return next(choice for choice in self.choices if choice.form == form)


@dataclass(frozen=True)
class Table:
    """All units, and what comes on top of them whatever is chosen: `fixed`, by metric, in its own unit.

    `together` says what damages come to.
    """

    units: Sequence[Unit]
    together: Together = field(default_factory=Together)
    fixed: Mapping[str, float] = field(default_factory=dict)

    @property
    def entries(self) -> int:
        return sum(unit.entries for unit in self.units)
