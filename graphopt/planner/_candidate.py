"""A way to ship a model, and what is expected of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from graphopt.cost import Prediction

__all__ = ["Candidate", "Outlook"]


@dataclass(frozen=True)
class Candidate:
    """A recipe with options by `PASS.OPTION`, a target, threads, and the form of each weight by name.

    `forms` are as `plan-bits` writes them ("4/128", "8/32z"); `cache_bits` is how keys and values are kept.
    `drafts` are tokens that are guessed ahead, 0 for none.
    """

    recipe: str
    target: str
    threads: int
    options: Mapping[str, str] = field(default_factory=dict)
    forms: Mapping[str, str] = field(default_factory=dict)
    cache_bits: int = 32
    drafts: int = 0


@dataclass(frozen=True)
class Outlook:
    """What is expected of a candidate, and the budgets that it does not keep."""

    candidate: Candidate
    prediction: Prediction
    broken: tuple[str, ...] = ()
