"""Recipes: ordered pass steps with options, and the damage they may do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Budget", "Recipe", "Step"]

_TAIL = 1.5
"""Nobody asked for a bound of the tail: it shall catch what is broken. Plans of one mean have 99th
percentiles up to 1.2 times as large as each other's (docs/compression.md)."""


class Budget(BaseModel):
    """The damage a recipe may do, end to end, against the source. None: not bounded by this metric.

    kl_mean and kl_p99: nats per token, source || package. cosine_min: the smallest of an encoder's
    embeddings. A lossless recipe leaves all empty: docs/architecture.md has what it is held to.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    kl_mean: float | None = Field(default=None, ge=0)
    kl_p99: float | None = Field(default=None, ge=0)
    cosine_min: float | None = Field(default=None, ge=-1, le=1)

    @property
    def lossless(self) -> bool:
        return self.kl_mean is None and self.kl_p99 is None and self.cosine_min is None

    def held_to(self, kl_mean: float | None) -> Budget:
        """With another mean divergence, and one of 99 % of tokens in proportion, but looser."""
        if kl_mean is None:
            return self
        rest = None
        if self.kl_p99 is not None and self.kl_mean:
            rest = _TAIL * self.kl_p99 / self.kl_mean * kl_mean
        return self.model_copy(update={"kl_mean": kl_mean, "kl_p99": rest})


@dataclass(frozen=True)
class Step:
    """One use of a pass. `name` is a pass name, or `@lower` for what the target asks for.

    `origin` says which recipe, and which of its groups, the step is written in: "@raise of lossless".
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    origin: str = field(default="", compare=False)


@dataclass(frozen=True)
class Recipe:
    """A named chain of steps and the damage it may do.

    `alternatives` are sets of steps that are left out, in the order to try, where a package of an .onnx file
    is larger or slower than that, or beyond the budget; the last one is all that compress. Without them there
    is one way.
    """

    name: str
    description: str
    budget: Budget
    steps: tuple[Step, ...]
    alternatives: tuple[tuple[str, ...], ...] = ()

    def expanded(self, lowering: Sequence[Step]) -> Recipe:
        """With `@lower` replaced by the target's own steps."""
        steps = (s for step in self.steps for s in (lowering if step.name == "@lower" else (step,)))
        return replace(self, steps=tuple(steps))
