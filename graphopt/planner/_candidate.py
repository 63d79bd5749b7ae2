"""A way to ship a model, and what is expected of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from graphopt.cost import Prediction

__all__ = ["Candidate", "Outlook"]


@dataclass(frozen=True)
class Candidate:
    """A recipe with options by `PASS.OPTION`, a target, threads, and the form of each weight by name.

    `forms` are as plans write them ("4/128", "8/32z"; "16" and "32" are floats); `cache_bits` is how keys
    and values are kept. `drafts`: the text itself drafts what comes next (`graphopt run --speculate`).
    `budget` is what the recipe's pass that plans is asked to keep to, "bpw=4.25", empty where none is.
    `machine` is the name of a profile, `devices` how many of it share the model, and `batch` how many texts
    are written together. `threads` are 0 on a device, which has none to choose.
    """

    recipe: str
    target: str
    threads: int
    options: Mapping[str, str] = field(default_factory=dict)
    forms: Mapping[str, str] = field(default_factory=dict)
    cache_bits: int = 32
    drafts: bool = False
    budget: tuple[str, ...] = ()
    machine: str = ""
    batch: int = 1
    devices: int = 1


@dataclass(frozen=True)
class Outlook:
    """What is expected of a candidate.

    `broken` are the budgets, as they are written, that it does not keep, and `unsure` those that it keeps,
    but whose interval reaches beyond. `fits`: its machines hold it. `notes` say what the numbers rest on.
    """

    candidate: Candidate
    prediction: Prediction
    broken: tuple[str, ...] = ()
    unsure: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    fits: bool = True

    @property
    def keeps(self) -> bool:
        return not self.broken
